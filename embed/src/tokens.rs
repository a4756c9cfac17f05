//! Text to token numbers: BERT's uncased WordPiece, as the reference tokenizer reads `tokenizer.json`.
//!
//! ```text
//! cut out special tokens -> drop controls, white space to ' ' -> NFD -> drop marks -> lower case
//!   -> words: between white space; each punctuation mark and CJK ideograph is a word of its own
//!   -> pieces: longest match first, `##` before what continues a word; [UNK] where nothing matches
//! ```
//!
//! Everything is lazy: a text of many megabytes costs no more than the tokens that are kept. A `tokenizer.json` that
//! asks for anything else is refused, not read with other eyes.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

use crate::error::EmbedError;
use crate::files;

/// A loaded tokenizer.
pub(crate) struct Tokenizer {
    vocab: HashMap<String, u32>,
    /// What a user's text may name literally, as `[SEP]`: the reference takes it for the token, and so do we.
    special: Vec<(String, u32)>,
    cls: u32,
    sep: u32,
    unknown: u32,
    continuing_prefix: String,
    word_chars_max: usize,
    /// No piece of the vocabulary is longer, so no longer one is looked up.
    piece_chars_max: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Padding and truncation that it asks for are not used: the caller decides.
    pub fn open(path: &Path) -> Result<Self, EmbedError> {
        let json: Value = files::read_json(path)?;
        Self::decode(&json).map_err(|why| EmbedError::corrupt(path, why))
    }

    fn decode(json: &Value) -> Result<Self, String> {
        let expect = |pointer: &str, allowed: &[Value]| match json.pointer(pointer).unwrap_or(&Value::Null) {
            found if allowed.contains(found) => Ok(()),
            found => Err(format!("expected {} at {pointer}, not {found}", allowed[0])),
        };
        expect("/model/type", &["WordPiece".into()])?;
        expect("/normalizer/type", &["BertNormalizer".into()])?;
        expect("/normalizer/clean_text", &[true.into()])?;
        expect("/normalizer/handle_chinese_chars", &[true.into()])?;
        expect("/normalizer/lowercase", &[true.into()])?;
        expect("/normalizer/strip_accents", &[Value::Null, true.into()])?;
        expect("/pre_tokenizer/type", &["BertPreTokenizer".into()])?;

        let text = |pointer: &str| {
            json.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("expected a string at {pointer}"))
        };
        let vocab = (json.pointer("/model/vocab").and_then(Value::as_object))
            .ok_or("expected an object at /model/vocab")?
            .iter()
            .map(|(piece, id)| Ok((piece.clone(), number(id)?)))
            .collect::<Result<HashMap<_, _>, String>>()?;
        let special = (json.pointer("/added_tokens").and_then(Value::as_array))
            .ok_or("expected a list at /added_tokens")?
            .iter()
            .map(added_token)
            .collect::<Result<Vec<_>, String>>()?;
        let id = |piece: &str| vocab.get(piece).copied().ok_or_else(|| format!("no {piece} in the vocabulary"));

        Ok(Tokenizer {
            cls: id("[CLS]")?,
            sep: id("[SEP]")?,
            unknown: id(text("/model/unk_token")?)?,
            continuing_prefix: text("/model/continuing_subword_prefix")?.to_owned(),
            word_chars_max: json.pointer("/model/max_input_chars_per_word").and_then(Value::as_u64).unwrap_or(100)
                as usize,
            piece_chars_max: vocab.keys().map(|piece| piece.chars().count()).max().unwrap_or(0),
            special,
            vocab,
        })
    }

    /// One more than the greatest token number: the rows that the network's word table must have.
    pub fn numbers(&self) -> usize {
        let special = self.special.iter().map(|(_, id)| id);
        self.vocab.values().chain(special).max().map_or(0, |id| *id as usize + 1)
    }

    /// `[CLS]`, the text's tokens, `[SEP]`: at most `max_len` in all, the text's end cut off.
    pub fn encode(&self, text: &str, max_len: usize) -> Vec<u32> {
        let mut out = Pieces { tokenizer: self, ids: vec![self.cls], len_max: max_len - 1, word: Word::default() };
        let mut rest = text;
        while !out.is_full() && !rest.is_empty() {
            rest = &rest[out.push_text(rest)..];
            if let Some((len, id)) = self.special_at(rest) {
                out.push(id);
                rest = &rest[len..];
            }
        }
        let mut ids = out.ids;
        ids.push(self.sep);
        ids
    }

    /// The special token that `text` begins with, the longest of several: (length in bytes, number).
    fn special_at(&self, text: &str) -> Option<(usize, u32)> {
        let here = self.special.iter().filter(|(token, _)| text.starts_with(token.as_str()));
        here.max_by_key(|(token, _)| token.len()).map(|(token, id)| (token.len(), *id))
    }

    /// Pieces of one word, longest match first. `None` if some part matches nothing: the whole word is unknown then.
    fn split_word(&self, word: &[char]) -> Option<Vec<u32>> {
        let mut ids = Vec::new();
        let mut candidate = String::new();
        let mut start = 0;
        while start < word.len() {
            let longest = word.len().min(start + self.piece_chars_max);
            let (end, id) = (start + 1..=longest).rev().find_map(|end| {
                candidate.clear();
                candidate.push_str(if start > 0 { &self.continuing_prefix } else { "" });
                candidate.extend(&word[start..end]);
                self.vocab.get(&candidate).map(|id| (end, *id))
            })?;
            ids.push(id);
            start = end;
        }
        Some(ids)
    }
}

fn number(value: &Value) -> Result<u32, String> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| format!("{value} is no token number"))
}

/// A token that is found in the text as it stands; other kinds (stripping, whole words) are refused.
fn added_token(value: &Value) -> Result<(String, u32), String> {
    let plain = ["single_word", "lstrip", "rstrip", "normalized"].iter().all(|flag| value[*flag] == Value::Bool(false));
    match value["content"].as_str() {
        Some(content) if plain && !content.is_empty() => Ok((content.to_owned(), number(&value["id"])?)),
        _ => Err(format!("an added token of an unexpected kind: {value}")),
    }
}

/// The word that is being read; characters beyond the limit are counted by one flag, not kept.
#[derive(Default)]
struct Word {
    chars: Vec<char>,
    too_long: bool,
}

/// Token numbers so far, and the word that has not ended.
struct Pieces<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    len_max: usize,
    word: Word,
}

impl Pieces<'_> {
    fn is_full(&self) -> bool {
        self.ids.len() >= self.len_max
    }

    fn push(&mut self, id: u32) {
        if !self.is_full() {
            self.ids.push(id);
        }
    }

    /// Text up to a special token: normalised, then split into words. Returns how many bytes lie before that token,
    /// or any number once there are enough pieces.
    fn push_text(&mut self, text: &str) -> usize {
        let tokenizer = self.tokenizer;
        let end = Cell::new(text.len());
        let is_before_special = |at: usize| {
            let special = tokenizer.special_at(&text[at..]).is_some();
            end.set(if special { at } else { end.get() });
            !special
        };
        let plain = text.char_indices().take_while(|(at, _)| is_before_special(*at)).map(|(_, c)| c);
        let clean = plain.filter(|c| !is_dropped(*c)).flat_map(|c| {
            // Ideographs are words of their own. Spaced before NFD, which may turn one into another.
            let space = is_ideograph(c).then_some(' ');
            space.into_iter().chain([if c.is_whitespace() { ' ' } else { c }]).chain(space)
        });
        for c in clean.nfd().filter(|c| !c.is_mark_nonspacing()).flat_map(char::to_lowercase) {
            if self.is_full() {
                return text.len();
            }
            if c.is_whitespace() {
                self.end_word();
            } else if c.is_ascii_punctuation() || c.is_punctuation() {
                self.end_word();
                self.word.chars.push(c);
                self.end_word();
            } else if self.word.chars.len() < self.tokenizer.word_chars_max {
                self.word.chars.push(c);
            } else {
                self.word.too_long = true;
            }
        }
        self.end_word();
        end.get()
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        if word.chars.is_empty() {
            return;
        }
        let pieces = if word.too_long { None } else { self.tokenizer.split_word(&word.chars) };
        for id in pieces.unwrap_or_else(|| vec![self.tokenizer.unknown]) {
            self.push(id);
        }
    }
}

/// Controls, format characters and private use, but not the white space among them.
fn is_dropped(c: char) -> bool {
    c == '\u{fffd}' || (c.is_other() && !matches!(c, '\t' | '\n' | '\r'))
}

/// The ranges that BERT calls Chinese characters; the gap at 2B820 is the reference's.
fn is_ideograph(c: char) -> bool {
    matches!(c as u32,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
