//! Which models there are, each loaded once, and how the texts of one call are shared out.
//!
//! CyborgDB 0.18 knows 17 models. Here a model is in the catalog when its vectors are compared with the reference in
//! this repository's tests, which takes its real files. Of the others, the MiniLM, BGE, E5 (`-v2`), MxBai and
//! Arctic ones are BERT, too, but some want the first token's row instead of the mean, or words put before each text;
//! MPNet has relative positions, and the multilingual ones another tokenizer.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;

use crate::bert::{self, Bert};
use crate::error::EmbedError;
use crate::files::{self, SPECS, Spec};
use crate::tokens::Tokenizer;

/// What a caller may know of a model without its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Full name, `owner/model`.
    pub name: &'static str,
    /// Elements of a vector.
    pub dims: usize,
    /// Tokens of a text that count, the two that mark its ends among them. A `sentence_bert_config.json` beside the
    /// weights may say another number, as for sentence-transformers.
    pub max_seq_length: usize,
}

/// The models below one directory, and the threads they run on. Share it: a model takes 500 ms and 190 MB to load,
/// and 110 MB to keep.
pub struct Catalog {
    model_dir: PathBuf,
    threads: NonZeroUsize,
    pool: OnceLock<ThreadPool>,
    /// One for each of [`SPECS`]. The lock is held while loading, so that it happens once.
    loaded: [Mutex<Option<Arc<Model>>>; SPECS.len()],
}

/// More than this many threads gain little for one query, and the database wants some, too.
const THREADS_DEFAULT_MAX: usize = 4;

/// Tokens of the texts that go through the network together: enough that weights read once serve many rows, and few
/// enough that 6 kB for each stays in the processor's cache.
const TOKENS_PER_GROUP: usize = 512;

impl Catalog {
    /// A catalog of the models below `model_dir`, on as many threads as there are processors, but at most four.
    /// Nothing is read, and no thread started, until the first [`embed`](Self::embed).
    pub fn new(model_dir: PathBuf) -> Self {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let most = NonZeroUsize::new(THREADS_DEFAULT_MAX).expect("the constant is not zero");
        Catalog {
            model_dir,
            threads: processors.min(most),
            pool: OnceLock::new(),
            loaded: std::array::from_fn(|_| Mutex::new(None)),
        }
    }

    /// The same with this many threads for all calls together; the callers' own threads only wait.
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Catalog { threads, ..self }
    }

    /// Models that [`embed`](Self::embed) knows, whether their files are there or not.
    pub fn supported(&self) -> Vec<ModelInfo> {
        SPECS.iter().map(Spec::info).collect()
    }

    /// The model of that name, in any case, with or without `sentence-transformers/`.
    pub fn find(&self, name: &str) -> Option<ModelInfo> {
        position(name).map(|i| SPECS[i].info())
    }

    /// One vector of length one for each text, in the texts' order, `dims` elements each. Blocks until all are there.
    ///
    /// # Errors
    /// [`EmbedError::Unsupported`] for a name that [`find`](Self::find) does not know; [`EmbedError::Missing`] and
    /// [`EmbedError::Corrupt`] for files, which the next call looks for again.
    pub fn embed(&self, name: &str, texts: &[&str]) -> Result<Vec<f32>, EmbedError> {
        let at = position(name).ok_or_else(|| self.unsupported(name))?;
        let model = self.load(at)?;
        let pool = self.pool()?;
        pool.install(|| model.embed(texts))
    }

    /// The token numbers that [`embed`](Self::embed) sees of a text: its ends marked, cut at the model's maximum.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn tokens(&self, name: &str, text: &str) -> Result<Vec<u32>, EmbedError> {
        let at = position(name).ok_or_else(|| self.unsupported(name))?;
        let model = self.load(at)?;
        model.tokenizer.encode(text)
    }

    fn unsupported(&self, name: &str) -> EmbedError {
        let supported: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
        EmbedError::Unsupported { name: name.chars().take(200).collect(), supported: supported.join(", ") }
    }

    fn load(&self, at: usize) -> Result<Arc<Model>, EmbedError> {
        // A loader that panicked left None, which is as good as new.
        let mut loaded = self.loaded[at].lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(model) => Ok(model.clone()),
            None => Ok(loaded.insert(Arc::new(Model::open(&self.model_dir, &SPECS[at])?)).clone()),
        }
    }

    fn pool(&self) -> Result<&ThreadPool, EmbedError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.threads.get())
            .thread_name(|i| format!("embed-{i}"))
            .build()
            .map_err(|e| EmbedError::Threads(e.to_string()))?;
        // Of two first callers, one pool is dropped before it had work.
        Ok(self.pool.get_or_init(|| pool))
    }
}

impl Spec {
    fn info(&self) -> ModelInfo {
        ModelInfo { name: self.name, dims: self.dims, max_seq_length: self.max_seq_length }
    }
}

fn position(name: &str) -> Option<usize> {
    SPECS.iter().position(|spec| [spec.name, spec.short_name()].iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// A model in memory.
struct Model {
    tokenizer: Tokenizer,
    bert: Bert,
    dims: usize,
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

impl Model {
    fn open(root: &Path, spec: &Spec) -> Result<Self, EmbedError> {
        let dir = files::locate(root, spec)?;
        let path = dir.join(files::SENTENCE_CONFIG);
        let set = if path.is_file() { files::read_json::<SentenceConfig>(&path)?.max_seq_length } else { None };
        let tokens_max = set.unwrap_or(spec.max_seq_length);

        // Three: the two that mark the ends, and one of the text.
        let tokenizer = Tokenizer::open(&dir.join(files::TOKENIZER), tokens_max.max(3))?;
        let config = bert::open_config(&dir.join(files::CONFIG), spec.dims, tokenizer.numbers())?;
        if !(3..=config.max_position_embeddings).contains(&tokens_max) {
            let most = config.max_position_embeddings;
            let why = format!("expected max_seq_length between 3 and {most}, not {tokens_max}");
            return Err(EmbedError::corrupt(&path, why));
        }
        let bert = Bert::open(&config, &dir.join(files::WEIGHTS))?;
        Ok(Model { tokenizer, bert, dims: spec.dims })
    }

    /// Runs on the current rayon pool.
    fn embed(&self, texts: &[&str]) -> Result<Vec<f32>, EmbedError> {
        let tokens: Vec<Vec<u32>> =
            texts.par_iter().map(|text| self.tokenizer.encode(text)).collect::<Result<_, _>>()?;

        // Texts of a length need no padding.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|i| tokens[*i].len());
        let groups = groups(&order, &tokens);
        let made: Vec<Vec<f32>> = groups
            .par_iter()
            .map(|group| self.bert.embed(&group.iter().map(|i| tokens[*i].as_slice()).collect::<Vec<_>>()))
            .collect::<Result<_, _>>()?;

        let mut vectors = vec![0.0; texts.len() * self.dims];
        for (i, vector) in order.iter().zip(made.iter().flat_map(|group| group.chunks_exact(self.dims))) {
            vectors[i * self.dims..][..self.dims].copy_from_slice(vector);
        }
        Ok(vectors)
    }
}

/// Cuts `order`, which is by length, into runs that have at most [`TOKENS_PER_GROUP`] with padding, or one text.
fn groups<'a>(order: &'a [usize], tokens: &[Vec<u32>]) -> Vec<&'a [usize]> {
    let mut groups = Vec::new();
    let mut rest = order;
    while !rest.is_empty() {
        let fitting = rest.iter().zip(1..).take_while(|(i, count)| count * tokens[**i].len() <= TOKENS_PER_GROUP);
        let (group, others) = rest.split_at(fitting.count().max(1));
        groups.push(group);
        rest = others;
    }
    groups
}
