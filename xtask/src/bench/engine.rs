//! The index methods that are compared: how each is made, asked and tuned.

use super::truth::{K, Metric};

/// OID of real[].
pub const REAL_ARRAY: u32 = 1021;
const REAL: u32 = 700;
/// OID of int4.
pub const INT4: u32 = 23;

/// OIDs of the two extensions' types; 0 without the extension.
#[derive(Clone, Copy, Default)]
pub struct Types {
    pub sealvec: u32,
    pub vector: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// sealed_ivf over a sealvec column
    Sealed,
    /// pgvector's ivfflat
    Ivfflat { lists: u32 },
    /// pgvector's hnsw
    Hnsw { m: u32, ef_construction: u32 },
}

impl Engine {
    pub fn name(self) -> String {
        match self {
            Engine::Sealed => String::from("sealed_ivf"),
            Engine::Ivfflat { .. } => String::from("ivfflat"),
            Engine::Hnsw { m, ef_construction } => format!("hnsw {m}/{ef_construction}"),
        }
    }

    pub fn is_hnsw(self) -> bool {
        matches!(self, Engine::Hnsw { .. })
    }

    /// The table that holds the vectors for it: each has its own, so that the planner has one index to choose from.
    pub fn table(self) -> String {
        match self {
            Engine::Sealed => String::from("sealed"),
            Engine::Ivfflat { .. } => String::from("plain_ivfflat"),
            Engine::Hnsw { m, ef_construction } => format!("plain_hnsw_{m}_{ef_construction}"),
        }
    }

    pub fn column(self, dims: usize) -> String {
        match self {
            Engine::Sealed => format!("sealvec({dims}, bench)"),
            Engine::Ivfflat { .. } | Engine::Hnsw { .. } => format!("vector({dims})"),
        }
    }

    pub fn create_index(self, index: &str, table: &str, metric: Metric, precision: &str) -> String {
        let metric = metric.name();
        let definition = match self {
            Engine::Sealed => {
                format!("sealed_ivf (embedding sealvec_{metric}_ops) WITH (storage_precision = '{precision}')")
            }
            Engine::Ivfflat { lists } => format!("ivfflat (embedding vector_{metric}_ops) WITH (lists = {lists})"),
            Engine::Hnsw { m, ef_construction } => {
                format!("hnsw (embedding vector_{metric}_ops) WITH (m = {m}, ef_construction = {ef_construction})")
            }
        };
        format!("CREATE INDEX {index} ON {table} USING {definition}")
    }

    pub fn query(self, table: &str, metric: Metric) -> String {
        self.filtered_query(table, metric, "")
    }

    /// With a WHERE clause, or nothing, before ORDER BY.
    pub fn filtered_query(self, table: &str, metric: Metric, filter: &str) -> String {
        format!("SELECT id FROM {table} {filter} ORDER BY embedding {} $1 LIMIT {K}", metric.operator())
    }

    /// Type of a vector as a parameter: the extension's own, as a driver with an adapter for it binds.
    pub fn parameter_type(self, types: Types) -> u32 {
        match self {
            Engine::Sealed => types.sealvec,
            Engine::Ivfflat { .. } | Engine::Hnsw { .. } => types.vector,
        }
    }

    /// Settings to try, each as (name, SQL). The first of `sealed_ivf` is what a user gets who sets nothing.
    pub fn settings(self) -> Vec<(String, Vec<String>)> {
        let sweep = |name: &str, guc: &str, values: &[u32]| -> Vec<(String, Vec<String>)> {
            values.iter().map(|value| (format!("{name} {value}"), vec![format!("SET {guc} = {value}")])).collect()
        };
        match self {
            Engine::Sealed => {
                let mut all = vec![(
                    String::from(NOTHING_SET),
                    vec![String::from("RESET sealvec.probes"), String::from("RESET sealvec.target_recall")],
                )];
                for target in [
                    "0.90", "0.93", "0.94", "0.96", "0.97", "0.975", "0.977", "0.98", "0.985", "0.988", "0.99", "0.995",
                ] {
                    all.push((
                        format!("target {target}"),
                        vec![String::from("RESET sealvec.probes"), format!("SET sealvec.target_recall = {target}")],
                    ));
                }
                all.extend(sweep(
                    "probes",
                    "sealvec.probes",
                    &[
                        1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512, 768,
                        1024,
                    ],
                ));
                all
            }
            Engine::Ivfflat { .. } => sweep(
                "probes",
                "ivfflat.probes",
                &[4, 8, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128],
            ),
            Engine::Hnsw { .. } => sweep(
                "ef_search",
                "hnsw.ef_search",
                &[10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 100, 120, 160, 200, 260, 320, 400, 600, 800, 1000],
            ),
        }
    }
}

/// Name of the setting that sets nothing.
pub const NOTHING_SET: &str = "nothing set";

/// A vector as real[] in binary, which the server casts to sealvec.
pub fn array(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + 8 * vector.len());
    for word in [1, 0, REAL, vector.len() as u32, 1] {
        bytes.extend(word.to_be_bytes()); // dimensions, no nulls, element type, length, lower bound
    }
    for x in vector {
        bytes.extend(4_u32.to_be_bytes());
        bytes.extend(x.to_be_bytes());
    }
    bytes
}

/// A vector in pgvector's binary form, which sealvec's receive function takes as well.
pub fn parameter(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + 4 * vector.len());
    bytes.extend((vector.len() as u16).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(vector.iter().flat_map(|x| x.to_be_bytes()));
    bytes
}
