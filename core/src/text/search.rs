//! One pass over all items: counts for the corpus, occurrences for those that hold a term; scores at the end.

use std::collections::HashMap;

use super::analyze::Counter;
use super::fusion::as_float32;
use super::query::TextQuery;
use crate::filter::field;
use crate::json::{Json, Kind};

/// A text query on its way through the items. What it holds of a row grows with the query's terms that are in it.
pub struct TextSearch<'q> {
    query: &'q TextQuery,
    counter: Counter<'q>,
    corpora: Vec<Corpus>,
    /// Items that hold a term: by field and term.
    holders: HashMap<(u32, u32), u64>,
    rows: Vec<Row>,
    occurrences: Vec<Occurrence>,
    found: Vec<u32>, // by term, of the text at hand
}

/// What all items together say of a field.
#[derive(Clone, Copy, Default)]
struct Corpus {
    items: u64,
    terms: u64,
}

/// A candidate, and where its occurrences end; they begin where those of the row before end.
struct Row {
    row: u64,
    end: usize,
}

/// A term in a field of a row.
struct Occurrence {
    field: u32,
    term: u32,
    count: u32,
    len: u32,
}

impl<'q> TextSearch<'q> {
    pub(super) fn new(query: &'q TextQuery) -> Self {
        Self {
            query,
            counter: Counter::new(&query.terms),
            corpora: vec![Corpus::default(); query.fields.len()],
            holders: HashMap::new(),
            rows: Vec::new(),
            occurrences: Vec::new(),
            found: vec![0; query.terms.len()],
        }
    }

    /// Sees an item. One that is no candidate, because the filter leaves it out, counts for the corpus only.
    pub fn add(&mut self, row: u64, metadata: Option<Json<'_>>, candidate: bool) {
        let start = self.occurrences.len();
        for (place, (path, _)) in (0..).zip(&self.query.fields) {
            // A field that is there twice, nested and under a name with a dot, has no text, as in the original.
            let &[value] = field::find(metadata, path).as_slice() else { continue };
            let Some(text) = Some(value).filter(|value| value.kind() == Kind::String).and_then(Json::string) else {
                continue;
            };
            self.found.fill(0);
            let len = self.counter.count(&text, &mut self.found);
            if len == 0 {
                continue;
            }
            let corpus = &mut self.corpora[place as usize];
            corpus.items += 1;
            corpus.terms += u64::from(len);
            for (term, &count) in (0..).zip(&self.found).filter(|(_, count)| **count > 0) {
                *self.holders.entry((place, term)).or_default() += 1;
                self.occurrences.push(Occurrence { field: place, term, count, len });
            }
        }
        if candidate && self.matches(&self.occurrences[start..]) {
            self.rows.push(Row { row, end: self.occurrences.len() });
        } else {
            self.occurrences.truncate(start);
        }
    }

    fn matches(&self, occurrences: &[Occurrence]) -> bool {
        match self.query.require_all {
            false => !occurrences.is_empty(),
            true => {
                let mut terms: Vec<u32> = occurrences.iter().map(|occurrence| occurrence.term).collect();
                terms.sort_unstable();
                terms.dedup();
                !terms.is_empty() && terms.len() == self.query.terms.len()
            }
        }
    }

    /// The best `limit` rows with their scores, best first; equal ones in the order they came. Scores are float32s,
    /// as the original's, and zero where only a field of weight zero holds a term.
    pub fn finish(self, limit: usize) -> Vec<(u64, f64)> {
        let mut start = 0;
        let mut scored = Vec::with_capacity(self.rows.len());
        for Row { row, end } in &self.rows {
            let score = self.occurrences[start..*end].iter().map(|occurrence| self.score(occurrence)).sum();
            scored.push((*row, as_float32(score)));
            start = *end;
        }
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        scored.truncate(limit);
        scored
    }

    fn score(&self, occurrence: &Occurrence) -> f64 {
        let Occurrence { field, term, count, len } = *occurrence;
        let Corpus { items, terms } = self.corpora[field as usize];
        let (all, holders) = (items as f64, self.holders[&(field, term)] as f64);
        let idf = ((all - holders + 0.5) / (holders + 0.5)).ln_1p();
        let mean = terms as f64 / all;
        self.query.fields[field as usize].1 * idf * self.query.bm25.saturation(count.into(), f64::from(len) / mean)
    }
}

/// Says nothing of words.
impl std::fmt::Debug for TextSearch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextSearch({} rows of {:?})", self.rows.len(), self.query)
    }
}
