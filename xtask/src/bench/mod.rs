//! `cargo xtask bench`: recall, speed, size, memory and WAL of the index, alone or beside pgvector on the same server.

mod engine;
mod measure;
mod report;
mod rest;
mod sweep;
mod truth;
mod wire;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::data::Matrix;
use crate::pg::{self, Cluster, How, Profile, Which};
use crate::run::step;
use crate::sidecar;
use engine::Engine;
use measure::{DATABASE, Ground};
use truth::{Metric, Truth};

/// Measure recall, speed, size, memory and WAL of the index, alone or beside pgvector.
///
/// Loads the vectors of a data set into a private cluster built in release, makes the index, and asks every query of the
/// set with one client, a prepared statement and binary values over the Unix socket: with nothing set, and over a sweep
/// of settings. Also fills an index that was made on an empty table and compares it with the fresh one.
#[derive(Args)]
pub struct Bench {
    /// Directory with vectors_f16.npy, queries_f16.npy and gt.npy (tests/data/deb_10k is one).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Distance to order by.
    #[arg(long, value_enum, default_value_t = Metric::L2)]
    metric: Metric,
    /// Measure pgvector's ivfflat and hnsw on the same server in the same run (Postgres 16 from the wheel).
    #[arg(long, value_enum, value_name = "RIVAL")]
    vs: Option<Rival>,
    /// Measure an encrypted index through the sidecar over HTTP instead, with nothing set.
    #[arg(long, conflicts_with_all = ["vs", "json"])]
    rest: bool,
    /// Also write everything measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use only the first rows; exact answers are then computed here.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Precision of the vectors in the sealed index.
    #[arg(long, default_value = "float16", value_parser = ["float16", "float32"])]
    precision: String,
    /// Seconds of timing at each setting.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Rows inserted one by one to measure WAL (a tenth of it for hnsw).
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    wal_rows: usize,
    /// Major version of Postgres; 16 with --vs pgvector.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(15..=18))]
    pg: Option<u32>,
    /// Use the extension as it was installed last.
    #[arg(long)]
    no_build: bool,
}

/// The sealed index that was made on an empty table.
const FILLED: &str = "sealed_ivf, filled";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rival {
    Pgvector,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        let begun = Instant::now();
        let mut vectors = Matrix::read(&self.data.join("vectors_f16.npy"))?;
        let queries = Matrix::read(&self.data.join("queries_f16.npy"))?;
        ensure!(vectors.dims == queries.dims, "vectors have {} dimensions, queries {}", vectors.dims, queries.dims);
        let truth = match self.rows {
            Some(rows) if rows < vectors.rows() => {
                ensure!(rows >= 100, "expected 100 rows or more, not {rows}");
                vectors.values.truncate(rows * vectors.dims);
                step("computing exact answers", || Ok(Truth::compute(self.metric, &vectors, &queries)))?
            }
            _ => Truth::read(&self.data.join("gt.npy"), self.metric, &vectors, &queries)?,
        };

        let cluster = self.cluster()?;
        let vector_oid = if self.rest { 0 } else { self.load(&cluster, &vectors)? };
        let ground = Ground {
            cluster: &cluster,
            vectors: &vectors,
            queries: &queries,
            truth: &truth,
            metric: self.metric,
            precision: &self.precision,
            seconds: self.seconds,
            vector_oid,
        };
        if self.rest {
            cluster.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
            cluster.connect(DATABASE)?.batch_execute("CREATE EXTENSION sealvec")?;
            let rest = rest::measure(&ground, &sidecar::program(self.version(), Profile::Release)?)?;
            cluster.stop("fast")?;
            rest.print(&report::machine());
            return Ok(());
        }
        let mut results = report::Results::new(&self, &ground)?;

        results.builds.push(measure::build(&ground, Engine::Sealed, "sealed_index", "sealed")?);
        measure::check_plan(&ground, Engine::Sealed, "sealed", "sealed_index")?;
        results.sweeps.push(sweep::sweep(&ground, Engine::Sealed, "sealed_ivf", "sealed", 0.999)?);
        results.filled = Some(self.fill_empty(&ground)?);
        results.sweeps.push(sweep::sweep(&ground, Engine::Sealed, FILLED, "filled", 0.999)?);
        for &rival in self.rivals() {
            let (table, index) = (rival.table(), format!("{}_index", rival.name()));
            results.builds.push(measure::build(&ground, rival, &index, table)?);
            measure::check_plan(&ground, rival, table, &index)?;
            results.sweeps.push(sweep::sweep(&ground, rival, rival.name(), table, 0.991)?);
        }
        results.heats = sweep::heats(&ground, &results.sweeps.iter().collect::<Vec<_>>())?;
        results.wal.push(measure::wal(&ground, Engine::Sealed, self.wal_rows)?);
        for &rival in self.rivals() {
            let rows = if rival == Engine::Hnsw { self.wal_rows / 10 } else { self.wal_rows };
            results.wal.push(measure::wal(&ground, rival, rows)?);
        }
        cluster.stop("fast")?;
        results.minutes = begun.elapsed().as_secs_f64() / 60.0;
        results.print();
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")
                .with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(())
    }

    fn rivals(&self) -> &'static [Engine] {
        match self.vs {
            Some(Rival::Pgvector) => &[Engine::Ivfflat, Engine::Hnsw],
            None => &[],
        }
    }

    fn version(&self) -> u32 {
        self.pg.unwrap_or(if self.vs.is_some() { 16 } else { 15 })
    }

    fn cluster(&self) -> Result<Cluster> {
        let settings = [
            ("shared_buffers", "2GB"), // every index and table of deb_62k fits: the sweep times the index, not the disk
            ("maintenance_work_mem", "1GB"), // hnsw spills below that
            ("max_wal_size", "16GB"),  // no checkpoint within a measurement
            ("checkpoint_timeout", "1h"),
            ("autovacuum", "off"), // nothing else on the second core
        ];
        pg::start(
            &Which { pg: self.version(), name: String::from("bench") },
            &How {
                profile: Profile::Release,
                no_build: self.no_build,
                settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
                fresh: true,
                sidecar: self.rest,
            },
        )
    }

    /// Makes the tables; returns the OID of pgvector's type, or 0 without it.
    fn load(&self, cluster: &Cluster, vectors: &Matrix) -> Result<u32> {
        cluster.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        let mut client = cluster.connect(DATABASE)?;
        client.batch_execute("CREATE EXTENSION sealvec; SELECT sealvec.create_key_ring('bench')")?;
        client.batch_execute("CREATE TABLE staging (id int PRIMARY KEY, v real[])")?;
        step(&format!("loading {} vectors of {} dimensions", vectors.rows(), vectors.dims), || {
            let sink = client.copy_in("COPY staging FROM STDIN (FORMAT binary)")?;
            let mut writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::FLOAT4_ARRAY]);
            for (id, vector) in vectors.iter().enumerate() {
                writer.write(&[&(id as i32), &vector])?;
            }
            writer.finish()?;
            Ok(())
        })?;
        let mut vector_oid = 0;
        if self.vs.is_some() {
            client
                .batch_execute("CREATE EXTENSION vector")
                .context("pgvector is not in this server; use --pg 16 or 18")?;
            vector_oid = client.query_one("SELECT 'vector'::regtype::oid", &[])?.get(0);
        }
        for &engine in [Engine::Sealed].iter().chain(self.rivals()) {
            let table = engine.table();
            step(&format!("filling table {table}"), || {
                client.batch_execute(&format!(
                    "CREATE TABLE {table} (id int PRIMARY KEY, embedding {})",
                    engine.column(vectors.dims)
                ))?;
                client.batch_execute(&format!("INSERT INTO {table} SELECT id, v FROM staging ORDER BY id"))?;
                client.batch_execute(&format!("VACUUM ANALYZE {table}")).map_err(Into::into)
            })?;
        }
        Ok(vector_oid)
    }

    /// An index made on an empty table and then filled.
    fn fill_empty(&self, ground: &Ground) -> Result<report::Filled> {
        let mut client = ground.cluster.connect(DATABASE)?;
        let column = Engine::Sealed.column(ground.vectors.dims);
        client.batch_execute(&format!("CREATE TABLE filled (id int PRIMARY KEY, embedding {column})"))?;
        client.batch_execute(&Engine::Sealed.create_index(
            "filled_index",
            "filled",
            ground.metric,
            ground.precision,
        ))?;
        let begun = Instant::now();
        step("filling an index that was made empty", || {
            client.batch_execute("INSERT INTO filled SELECT id, v FROM staging ORDER BY id").map_err(Into::into)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        client.batch_execute("VACUUM ANALYZE filled")?;
        let index_bytes = measure::relation_bytes(&mut client, "filled_index")?;
        measure::check_plan(ground, Engine::Sealed, "filled", "filled_index")?;
        Ok(report::Filled { seconds, index_bytes })
    }
}
