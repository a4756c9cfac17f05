//! From a text to terms: words in lower case, without stop words, by their English stems.
//!
//! On ASCII it gives the terms of CyborgDB 0.18, with the stems of a newer Snowball, which tells `internal` from
//! `international`. Other letters it takes as Unicode has them, where the original takes every byte from
//! 0x80 as a lower-case letter: there “fox”, in quotation marks or before a dash, is no fox.

use std::collections::HashMap;

use frostem::{Algorithm, Stemmer};

/// What an index reports as the analyzer of its texts. The second part is the original's name for the list of
/// stop words, the FNV-1a hash of its lines.
pub const ANALYZER_VERSION: &str = "en/1-unicode;sw=2de831ef7be676b6;snowball-english-utf8-3.2.0";

/// Most bytes of a word; longer ones are no words, as in the original.
pub const TOKEN_LEN_MAX: usize = 255;

/// Most bytes of a word in any case: lower case is never shorter than a third (the Kelvin sign, k).
const LEN_READ_MAX: usize = 3 * TOKEN_LEN_MAX;

/// Most words whose stem is remembered: the vocabulary of a large collection, in a few megabytes.
const KNOWN_MAX: usize = 1 << 16;

/// Lucene's English stop words (`EnglishAnalyzer.ENGLISH_STOP_WORDS_SET`), ascending.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
];

/// Bytes of the longest of them.
const STOP_LEN_MAX: usize = 5;

/// Calls `take` for each word of `text`, in lower case: a run of letters, marks and digits, or of digits with single
/// points between them.
fn each_word(text: &str, mut take: impl FnMut(&str)) {
    let (mut word, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(is_of_word) {
        rest = &rest[start..];
        let len = word_len(rest);
        if len <= LEN_READ_MAX {
            lower_into(&rest[..len], &mut word);
            if word.len() <= TOKEN_LEN_MAX {
                take(&word);
            }
        }
        rest = &rest[len..];
    }
}

/// Bytes of the word at the front of `text`.
fn word_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |place: usize| bytes.get(place).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'.' if digit(at - 1) && digit(at + 1) => 1, // never at the front: a word begins with a letter or digit
            0..0x80 if byte.is_ascii_alphanumeric() => 1,
            0..0x80 => break,
            _ => match text[at..].chars().next() {
                Some(char) if is_of_word(char) => char.len_utf8(),
                _ => break,
            },
        };
    }
    at
}

fn lower_into(text: &str, word: &mut String) {
    word.clear();
    match text.is_ascii() {
        true => {
            word.push_str(text);
            word.make_ascii_lowercase();
        }
        false => word.extend(text.chars().flat_map(char::to_lowercase)),
    }
}

fn is_of_word(char: char) -> bool {
    match char.is_ascii() {
        true => char.is_ascii_alphanumeric(),
        // The second has the marks, without which half of the world's scripts fall to pieces.
        false => char.is_alphanumeric() || regex_syntax::is_word_character(char),
    }
}

/// The term that a word stands for; `None` for a stop word.
fn stem(stemmer: &Stemmer, word: &str) -> Option<String> {
    match STOP_WORDS.binary_search(&word) {
        Ok(_) => None,
        Err(_) => Some(stemmer.stem(word).into_owned()),
    }
}

/// The different terms of a query, in their order.
pub(super) fn terms(text: &str) -> Vec<String> {
    let stemmer = Stemmer::new(Algorithm::English);
    let mut terms: HashMap<String, usize> = HashMap::new();
    each_word(text, |word| {
        if let Some(term) = stem(&stemmer, word) {
            let place = terms.len();
            terms.entry(term).or_insert(place);
        }
    });
    let mut terms: Vec<_> = terms.into_iter().collect();
    terms.sort_unstable_by_key(|(_, place)| *place);
    terms.into_iter().map(|(term, _)| term).collect()
}

/// Counts the terms of a query in many texts. Stemming costs more than all else, so each word is stemmed once.
pub(super) struct Counter<'q> {
    stemmer: Stemmer,
    terms: HashMap<&'q str, u32>,
    initials: [bool; 256],
    known: HashMap<Box<str>, Word>,
}

#[derive(Clone, Copy)]
enum Word {
    Stop,
    Term(u32),
    Other,
}

impl<'q> Counter<'q> {
    pub(super) fn new(terms: &'q [String]) -> Self {
        let mut initials = [false; 256];
        terms.iter().flat_map(|term| term.bytes().next()).for_each(|initial| initials[usize::from(initial)] = true);
        let terms = terms.iter().map(String::as_str).zip(0..).collect();
        Self { stemmer: Stemmer::new(Algorithm::English), terms, initials, known: HashMap::new() }
    }

    /// The number of terms in `text`. How often each of the query's occurs is added to `found`, which is as long as those are many.
    pub(super) fn count(&mut self, text: &str, found: &mut [u32]) -> u32 {
        let mut len = 0;
        each_word(text, |word| match self.word(word) {
            Word::Stop => {}
            Word::Other => len += 1,
            Word::Term(term) => {
                len += 1;
                found[term as usize] += 1;
            }
        });
        len
    }

    fn word(&mut self, word: &str) -> Word {
        // A stem begins as its word does, so most words need no look-up: those that no term and no stop word is like.
        let initial = word.as_bytes()[0];
        if word.len() > STOP_LEN_MAX && initial.is_ascii() && !self.initials[usize::from(initial)] {
            return Word::Other;
        }
        if let Some(known) = self.known.get(word) {
            return *known;
        }
        let found = match stem(&self.stemmer, word) {
            None => Word::Stop,
            Some(term) => self.terms.get(term.as_str()).map_or(Word::Other, |term| Word::Term(*term)),
        };
        if self.known.len() < KNOWN_MAX {
            self.known.insert(word.into(), found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words, stop words among them.
    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word.to_owned()));
        words
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text), expected, "{text:?}");
    }

    #[test]
    fn stop_words_are_the_originals() {
        assert!(STOP_WORDS.is_sorted());
        assert!(STOP_WORDS.iter().all(|word| word.len() <= STOP_LEN_MAX));
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a, 64 bits
        for byte in STOP_WORDS.iter().flat_map(|word| word.bytes().chain([b'\n'])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        assert!(ANALYZER_VERSION.contains(&format!(";sw={hash:016x};")), "{hash:016x}");
    }

    /// As the original splits them, seen by what finds what (cyborgdb-core 0.18.0).
    #[test]
    fn ascii_is_split_as_the_original_splits_it() {
        check("foo_bar don't x.y-z/w", &["foo", "bar", "don", "t", "x", "y", "z", "w"]);
        check("C++ c# .net user@example.com", &["c", "c", "net", "user", "example", "com"]);
        check("running,runs;RAN", &["running", "runs", "ran"]);
        check("3.14 v1.0 1.2.3 10.5kg", &["3.14", "v1.0", "1.2.3", "10.5kg"]);
        check(
            "2024. .5 5.a a.5 1..2 1,000 12-34 1:30",
            &["2024", "5", "5", "a", "a", "5", "1", "2", "1", "000", "12", "34", "1", "30"],
        );
        check("a1b2\tx\nY", &["a1b2", "x", "y"]);
        check("", &[]);
        check(" .,;-'\" ", &[]);
    }

    #[test]
    fn other_scripts_are_split_by_unicode() {
        check("CAFÉ naïve—test “fox” a\u{a0}b", &["café", "naïve", "test", "fox", "a", "b"]);
        check("🦀crab🦀 日本 語 e\u{301}tude हिन्दी", &["crab", "日本", "語", "e\u{301}tude", "हिन्दी"]);
        check("ΩMEGA Straße ١٢٣ x²", &["ωmega", "straße", "١٢٣", "x²"]);
    }

    #[test]
    fn a_word_too_long_is_none() {
        check(&format!("a {} b", "x".repeat(TOKEN_LEN_MAX)), &["a", &"x".repeat(TOKEN_LEN_MAX), "b"]);
        check(&format!("a {} b", "x".repeat(TOKEN_LEN_MAX + 1)), &["a", "b"]);
        check(&format!("a {} b", "é".repeat(128)), &["a", "b"]);
    }

    #[test]
    fn terms_are_different_stems_in_order() {
        assert_eq!(terms("The quick foxes, a fox and QUICKLY jumping"), ["quick", "fox", "jump"]);
        // Porter2 as of Snowball 3: the original's answers tell these apart, too.
        assert_eq!(
            terms("geology geologist organ organize dying sky skies"),
            ["geolog", "organ", "organiz", "die", "sky"]
        );
        assert!(terms("the of THE, not").is_empty());
    }

    #[test]
    fn counting_agrees_with_terms() {
        let query = terms("fox dog");
        let mut counter = Counter::new(&query);
        let mut found = vec![0; 2];
        assert_eq!(counter.count("The fox and the foxes of a Fox's dogs run", &mut found), 6);
        assert_eq!(found, [3, 1]);
        assert_eq!(counter.count("the", &mut found), 0);
        assert_eq!(found, [3, 1]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let all = terms(&text);
            let mut counter = Counter::new(&all);
            let mut found = vec![0; all.len()];
            let len = counter.count(&text, &mut found);
            prop_assert_eq!(len, found.iter().sum::<u32>(), "every term of a text is a term of its own query");
            prop_assert!(found.iter().all(|count| *count > 0));
        }

        #[test]
        fn no_word_makes_the_stemmer_panic(word in "[a-zyéà\u{301}0-9]{0,14}(ing|ed|s|ies|ational|li|eed|ly|y|ogi|us)?") {
            let _ = terms(&word);
        }

        #[test]
        fn a_stem_begins_as_its_word(word in "[a-z0-9][a-zéæœſ\u{301}0-9.]{0,10}(ing|ed|s|ies|ational|li|eed|ly|y|ogi|us)?") {
            let stem = Stemmer::new(Algorithm::English).stem(&word).into_owned();
            prop_assert_eq!(stem.as_bytes().first(), word.as_bytes().first(), "{} of {}", stem, word);
        }

        /// Words that share a beginning with a term, or do not, and stop words: a count by terms alone agrees.
        #[test]
        fn short_cuts_lose_no_word(text in "(([a-c]|skies|sky|dying|die|the|there|foxes|foxing|fox|Fox|æon|aeon|1[.]5|5)[ ,.]){0,20}", query in "(([a-c]|sky|die|fox|æon|5|1[.]5) ){0,3}") {
            let query = terms(&query);
            let mut found = vec![0; query.len()];
            let len = Counter::new(&query).count(&text, &mut found);
            let stems: Vec<String> = words(&text).iter().flat_map(|word| terms(word)).collect();
            prop_assert_eq!(len as usize, stems.len());
            for (term, count) in query.iter().zip(found) {
                prop_assert_eq!(count as usize, stems.iter().filter(|stem| *stem == term).count());
            }
        }
    }
}
