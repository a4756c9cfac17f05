//! The network: BERT's encoder, mean pooling and unit length, for several texts at once and without padding.
//!
//! ```text
//! x = LN(word[id] + position[i] + type[0])
//! each layer:  q|k|v = x·Wqkv + b;   a = softmax(q·kᵀ / √d)·v   for each text and head
//!              x = LN(x + a·Wo + b); x = LN(x + gelu(x·W1 + b)·W2 + b)
//! vector = mean(x) / |mean(x)|
//! ```
//!
//! The texts of a group lie one after another as rows of one matrix, so every product but attention's is one for the
//! whole group and no time goes into padding. Devlin et al., <https://arxiv.org/abs/1810.04805>; names of the
//! tensors and the exact GELU (with erf) as in Hugging Face's `BertModel`.

use std::path::Path;

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};
use serde::Deserialize;

use crate::error::EmbedError;
use crate::files;
use crate::safetensors::Weights;

/// What this code needs of `config.json`; the rest of it does not change a vector.
#[derive(Deserialize)]
pub(crate) struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    pub hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f32,
    pub max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    type_vocab_size: usize,
    vocab_size: usize,
}

fn absolute() -> String {
    "absolute".into()
}

impl Config {
    /// Reads `config.json` and refuses what [`Bert`] would compute otherwise than its authors meant.
    pub fn open(path: &Path, dims: usize, token_numbers: usize) -> Result<Self, EmbedError> {
        let config: Config = files::read_json(path)?;
        let rows = [
            (config.model_type == "bert", "model_type is not bert"),
            (config.hidden_act == "gelu", "hidden_act is not gelu"),
            (config.position_embedding_type == "absolute", "position_embedding_type is not absolute"),
            (config.hidden_size == dims, "hidden_size is not this model's"),
            (
                config.num_attention_heads > 0 && config.hidden_size.is_multiple_of(config.num_attention_heads),
                "hidden_size is no multiple of num_attention_heads",
            ),
            (config.type_vocab_size > 0, "type_vocab_size is zero"),
            (config.vocab_size >= token_numbers, "vocab_size is less than tokenizer.json's"),
        ];
        match rows.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(EmbedError::corrupt(path, why)),
            None => Ok(config),
        }
    }
}

/// Weights, packed for the processor that loaded them.
pub(crate) struct Bert {
    hidden: usize,
    heads: usize,
    /// `vocab_size` rows.
    words: Vec<f32>,
    /// A row for each position, the type's row already added: there is one type.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values side by side.
    attention: Dense,
    attention_out: Dense,
    attention_norm: LayerNorm,
    up: Dense,
    down: Dense,
    norm: LayerNorm,
}

impl Bert {
    /// Takes every tensor out of `weights`; shapes are checked here, and relied on from here on.
    pub fn open(config: &Config, weights: &Weights) -> Result<Self, EmbedError> {
        let hidden = config.hidden_size;
        let gemm = GemmExecutor::new();
        let norm = |name: &str| LayerNorm::open(weights, name, hidden, config.layer_norm_eps);
        let dense =
            |names: &[String], outputs: usize, inputs: usize| Dense::open(&gemm, weights, names, outputs, inputs);

        let mut positions =
            weights.take("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let types = weights.take("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            add(row, &types[..hidden]);
        }

        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let name = |part: &str| format!("encoder.layer.{i}.{part}");
                let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
                Ok(Layer {
                    attention: dense(&qkv, hidden, hidden)?,
                    attention_out: dense(&[name("attention.output.dense")], hidden, hidden)?,
                    attention_norm: norm(&name("attention.output.LayerNorm"))?,
                    up: dense(&[name("intermediate.dense")], config.intermediate_size, hidden)?,
                    down: dense(&[name("output.dense")], hidden, config.intermediate_size)?,
                    norm: norm(&name("output.LayerNorm"))?,
                })
            })
            .collect::<Result<_, EmbedError>>()?;

        Ok(Bert {
            hidden,
            heads: config.num_attention_heads,
            words: weights.take("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions,
            norm: norm("embeddings.LayerNorm")?,
            layers,
        })
    }

    /// One vector of length one for each text, in order. Runs on the current rayon pool.
    ///
    /// A text is at least one token and at most `max_position_embeddings`, each less than `vocab_size`.
    pub fn embed(&self, texts: &[&[u32]]) -> Vec<f32> {
        // Not kept in Self: it can't be sent to another thread, and making one is a look at the processor's features.
        let gemm = GemmExecutor::new();

        let mut x = self.look_up(texts);
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let qkv = layer.attention.apply(&gemm, &x);
            let mixed = self.attend(&gemm, texts, &qkv);
            add(&mut x, &layer.attention_out.apply(&gemm, &mixed));
            layer.attention_norm.apply(&mut x);

            let mut wide = layer.up.apply(&gemm, &x);
            wide.par_chunks_mut(PIECE).for_each(|piece| Gelu {}.map_mut(piece));
            add(&mut x, &layer.down.apply(&gemm, &wide));
            layer.norm.apply(&mut x);
        }
        self.pool(texts, &x)
    }

    fn look_up(&self, texts: &[&[u32]]) -> Vec<f32> {
        let tokens: usize = texts.iter().map(|ids| ids.len()).sum();
        let mut x = Vec::with_capacity(tokens * self.hidden);
        for ids in texts {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(self.hidden)) {
                let word = &self.words[*id as usize * self.hidden..][..self.hidden];
                x.extend(word.iter().zip(position).map(|(w, p)| w + p));
            }
        }
        x
    }

    /// Attention within each text: a task is one head of one text.
    fn attend(&self, gemm: &GemmExecutor, texts: &[&[u32]], qkv: &[f32]) -> Vec<f32> {
        let (hidden, stride, depth) = (self.hidden, 3 * self.hidden, self.hidden / self.heads);
        let scale = 1.0 / (depth as f32).sqrt();

        // By text, then by head, then by token, so that each task owns one slice.
        let mut by_head = vec![0.0; qkv.len() / 3];
        let mut tasks = Vec::with_capacity(texts.len() * self.heads);
        let (mut rest, mut first) = (by_head.as_mut_slice(), 0);
        for ids in texts {
            for head in 0..self.heads {
                let (out, others) = rest.split_at_mut(ids.len() * depth);
                tasks.push((first, ids.len(), head, out));
                rest = others;
            }
            first += ids.len();
        }

        tasks.into_par_iter().for_each_init(Vec::new, |scores: &mut Vec<f32>, (first, len, head, out)| {
            let part = |nth: usize| {
                let start = first * stride + nth * hidden + head * depth;
                let end = (first + len - 1) * stride + nth * hidden + (head + 1) * depth;
                Matrix::from_data_with_strides([len, depth], &qkv[start..end], [stride, 1])
                    .expect("rows do not overlap")
            };
            scores.clear();
            scores.resize(len * len, 0.0);
            let options = GemmOptions { alpha: scale, ..GemmOptions::default() };
            multiply(gemm, scores, part(0), GemmInputB::Unpacked(part(1).transposed()), options);
            for row in scores.chunks_exact_mut(len) {
                Softmax::new_mut(row).dispatch();
            }
            let scores = NdTensorView::from_data([len, len], scores.as_slice());
            multiply(gemm, out, scores, GemmInputB::Unpacked(part(2)), GemmOptions::default());
        });

        let mut out = Vec::with_capacity(by_head.len());
        let mut rest = by_head.as_slice();
        for ids in texts {
            let (text, others) = rest.split_at(ids.len() * hidden);
            for token in 0..ids.len() {
                (0..self.heads).for_each(|head| out.extend(&text[(head * ids.len() + token) * depth..][..depth]));
            }
            rest = others;
        }
        out
    }

    /// Mean of each text's rows, then length one.
    fn pool(&self, texts: &[&[u32]], x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; texts.len() * self.hidden];
        let mut rest = x;
        for (ids, mean) in texts.iter().zip(out.chunks_exact_mut(self.hidden)) {
            let (rows, others) = rest.split_at(ids.len() * self.hidden);
            rows.chunks_exact(self.hidden).for_each(|row| add(mean, row));
            rest = others;

            // Dividing by the number of tokens would change the length alone, which becomes one here.
            let length = mean.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
            mean.iter_mut().for_each(|v| *v /= length);
        }
        out
    }
}

/// Elements that one task takes of work that is the same for each element: 64 kB.
const PIECE: usize = 16 * 1024;

/// `x·W + b`; stored as the transpose of PyTorch's `[outputs, inputs]`.
struct Dense {
    weight: PackedBMatrix<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Dense {
    /// Several layers of one shape with one input become one, their outputs side by side.
    fn open(
        gemm: &GemmExecutor,
        weights: &Weights,
        names: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, EmbedError> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            rows.extend(weights.take(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(weights.take(&format!("{name}.bias"), &[outputs])?);
        }
        let weight = NdTensorView::from_data([bias.len(), inputs], rows.as_slice());
        Ok(Dense { weight: gemm.prepack_b(weight.transposed()), bias, inputs })
    }

    fn apply(&self, gemm: &GemmExecutor, x: &[f32]) -> Vec<f32> {
        let tokens = x.len() / self.inputs;
        let mut out = vec![0.0; tokens * self.bias.len()];
        let x = NdTensorView::from_data([tokens, self.inputs], x);
        let options = GemmOptions { bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() };
        multiply(gemm, &mut out, x, GemmInputB::Packed(&self.weight), options);
        out
    }
}

/// `out = a·b` with what `options` add.
fn multiply(
    gemm: &GemmExecutor,
    out: &mut [f32],
    a: Matrix<'_, f32>,
    b: GemmInputB<'_, f32>,
    options: GemmOptions<'_, f32, f32, f32>,
) {
    gemm.gemm(out, GemmInputA::Unpacked(a), b, options).expect("shapes were checked when the weights were loaded");
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`, for each row.
struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    fn open(weights: &Weights, name: &str, hidden: usize, eps: f32) -> Result<Self, EmbedError> {
        let take = |part: &str| weights.take(&format!("{name}.{part}"), &[hidden]);
        Ok(LayerNorm { weight: take("weight")?, bias: take("bias")?, eps })
    }

    fn apply(&self, x: &mut [f32]) {
        let hidden = self.weight.len();
        let rows_per_task = PIECE.div_ceil(hidden);
        x.par_chunks_mut(rows_per_task * hidden).for_each(|rows| {
            rows.chunks_exact_mut(hidden).for_each(|row| {
                let mean = Sum::new(row).dispatch() / hidden as f32;
                let variance = SumSquareSub::new(row, mean).dispatch() / hidden as f32;
                let options = NormalizeOptions {
                    pre_scale_bias: mean,
                    scale: 1.0 / (variance + self.eps).sqrt(),
                    element_scale: Some(&self.weight),
                    bias: 0.0,
                    element_bias: Some(&self.bias),
                };
                Normalize::new_mut(row, options).dispatch();
            });
        });
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
