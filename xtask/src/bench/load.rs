//! How vectors come into tables: COPY, in the forms that both extensions take.

use std::fmt::Write as _;
use std::ops::Range;

use anyhow::{Context, Result};

use super::engine::{Engine, Types, parameter};
use super::measure::DATABASE;
use super::wire::Wire;
use crate::data::Matrix;
use crate::pg::Cluster;
use crate::run::step;

/// Rows in one piece of COPY data: about a megabyte.
const PIECE: usize = 512;

/// A form of COPY.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// pgvector's layout, for sealvec too
    Binary,
    /// `[0.1,0.2]`
    Text,
}

impl Form {
    pub fn command(self, table: &str) -> String {
        let options = if self == Form::Binary { " (FORMAT binary)" } else { "" };
        format!("COPY {table} (id, embedding) FROM STDIN{options}")
    }

    /// The data of these rows, in pieces; ids are row numbers.
    pub fn pieces(self, vectors: &Matrix, rows: Range<usize>) -> impl Iterator<Item = Vec<u8>> {
        let last = rows.end;
        rows.clone().step_by(PIECE).map(move |first| {
            let mut piece = Vec::new();
            if self == Form::Binary && first == rows.start {
                piece.extend(b"PGCOPY\n\xff\r\n\0");
                piece.extend([0; 8]); // no flags, no extension of the header
            }
            for row in first..(first + PIECE).min(last) {
                self.row(row as i32, vectors.row(row), &mut piece);
            }
            if self == Form::Binary && first + PIECE >= last {
                piece.extend((-1_i16).to_be_bytes());
            }
            piece
        })
    }

    fn row(self, id: i32, vector: &[f32], piece: &mut Vec<u8>) {
        match self {
            Form::Binary => {
                let bytes = parameter(vector);
                piece.extend(2_u16.to_be_bytes()); // columns
                piece.extend(4_u32.to_be_bytes());
                piece.extend(id.to_be_bytes());
                piece.extend((bytes.len() as u32).to_be_bytes());
                piece.extend(bytes);
            }
            Form::Text => {
                let mut line = format!("{id}\t[");
                for (i, x) in vector.iter().enumerate() {
                    let _ = write!(line, "{}{x}", if i == 0 { "" } else { "," });
                }
                line.push_str("]\n");
                piece.extend(line.as_bytes());
            }
        }
    }
}

/// Makes the bench's database, with both extensions or ours alone.
pub fn database(cluster: &Cluster, with_pgvector: bool) -> Result<Types> {
    cluster.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE EXTENSION sealvec; SELECT sealvec.create_key_ring('bench')")?;
    let mut oid =
        |name: &str| -> Result<u32> { Ok(client.query_one("SELECT $1::text::regtype::oid", &[&name])?.get(0)) };
    let sealvec = oid("sealvec")?;
    if !with_pgvector {
        return Ok(Types { sealvec, vector: 0 });
    }
    client.batch_execute("CREATE EXTENSION vector").context("pgvector is not in this server; use --pg 16 or 18")?;
    let vector = client.query_one("SELECT 'vector'::regtype::oid", &[])?.get(0);
    Ok(Types { sealvec, vector })
}

/// A table `(id, embedding)` of this engine with every vector, vacuumed; no index but the primary key.
pub fn table(cluster: &Cluster, engine: Engine, table: &str, vectors: &Matrix) -> Result<()> {
    let mut client = cluster.connect(DATABASE)?;
    let column = engine.column(vectors.dims);
    client.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, embedding {column})"))?;
    step(&format!("loading {} vectors into {table}", vectors.rows()), || {
        let mut wire = Wire::connect(&cluster.socket(), cluster.port()?, DATABASE)?;
        wire.copy(&Form::Binary.command(table), Form::Binary.pieces(vectors, 0..vectors.rows()))?;
        client.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
        client.batch_execute("CHECKPOINT")?; // none shall fall into a measurement
        Ok(())
    })
}
