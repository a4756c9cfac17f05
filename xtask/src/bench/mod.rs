//! `cargo xtask bench`: recall, speed, size, memory and WAL of the index, alone or beside pgvector on the same server.

mod arguments;
mod bare;
mod binding;
mod compare;
mod defaults;
mod engine;
mod figure;
mod filled;
mod filter;
mod first;
mod goals;
mod growth;
mod insert;
mod limit;
mod load;
mod measure;
mod one_core;
mod profile;
mod report;
mod rest;
mod set;
mod sweep;
mod times;
mod truth;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::data::derive;
use crate::pg::{self, Cluster, How, Profile, Which};
use crate::sidecar;
use crate::tree;
use arguments::{again, arguments, hnsw};
use compare::Earlier;
use engine::{Engine, Types};
use goals::Goals;
use measure::{DATABASE, Ground};
use report::Results;
use set::Set;
use truth::Metric;

/// Measure recall, speed, size, memory and WAL of the index, alone or beside pgvector.
///
/// Loads the vectors of a data set into a private cluster built in release, makes the index, and asks every query of the
/// set with one client, a prepared statement and binary values over the Unix socket: with nothing set, and over a sweep
/// of settings. Then inserts, COPY, exact scans, filters, fresh backends, WAL, an index that was made empty, and a
/// profile. Ends with a table of what was measured and what is wanted.
#[derive(Args)]
pub struct Bench {
    /// Directory with vectors_f16.npy, queries_f16.npy and gt.npy; tests/data/deb_10k if not given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Measure so many rows derived from those of --data: made once, kept under target/bench-data.
    #[arg(long, value_name = "N", conflicts_with = "rows")]
    derive: Option<usize>,
    /// Distance to order by.
    #[arg(long, value_enum, default_value_t = Metric::L2)]
    metric: Metric,
    /// Measure pgvector's ivfflat and hnsw on the same server in the same run (Postgres 16 from the wheel).
    #[arg(long, value_enum, value_name = "RIVAL")]
    vs: Option<Rival>,
    /// Values of m and ef_construction to build hnsw with, each M/EF; the best of all counts at each recall.
    #[arg(long, value_name = "M/EF,…", value_delimiter = ',', value_parser = hnsw, requires = "vs")]
    hnsw: Vec<Engine>,
    /// Measure only these; everything if not given. Builds and sizes are always measured.
    #[arg(long, value_enum, value_name = "PART,…", value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure an encrypted index through the sidecar over HTTP instead, with nothing set.
    #[arg(long, conflicts_with_all = ["vs", "json", "compare", "derive"])]
    rest: bool,
    /// Also write everything measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tell what fell by more than 5 % since the run that wrote this file. Alone, it runs what that run ran.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// With --compare: measure nothing, compare the two files.
    #[arg(long, value_name = "NEW.json", requires = "compare")]
    with: Option<PathBuf>,
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
    /// Rows inserted in batches, and half as many one by one (a tenth of it for hnsw).
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    insert_rows: usize,
    /// Major version of Postgres; 16 with --vs pgvector.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(15..=18))]
    pg: Option<u32>,
    /// Leave priorities as they are: other programs go on undisturbed, and figures are worse for it.
    #[arg(long)]
    background: bool,
    /// Leave client and backend of timed queries on the cores where the system puts them, not on one.
    #[arg(long)]
    any_core: bool,
    /// Use the extension as it was installed last.
    #[arg(long)]
    no_build: bool,
}

/// Bytes of a row of 384 dimensions in a table: two of them for each index and its table, and some more for hnsw.
const ROW_BYTES: u64 = 1_600;
/// A set of more rows than this gets no index that is filled row by row, and no ivfflat.
const ROWS_OF_ALL: usize = 200_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rival {
    Pgvector,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Queries a second over a sweep of settings, and the best settings in turns
    Speed,
    /// An index made on an empty table and then filled (up to 200,000 rows)
    Filled,
    /// Where a query's time goes, by perf, and the physical limit
    Profile,
    /// First query of a fresh backend
    First,
    /// The set's filters in WHERE
    Filter,
    /// COPY without an index, and exact scans
    Bare,
    /// p50 beside that of a derived set of as many rows as the base
    Growth,
    /// WAL of inserted rows
    Wal,
    /// Inserts in batches and one by one
    Insert,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        if self.rest {
            return self.over_http();
        }
        let mut arguments = arguments(std::env::args().skip(2));
        let Some(path) = &self.compare else { return self.measure(arguments, None).map(drop) };
        let old = Earlier::read(path)?;
        if let Some(path) = &self.with {
            let new = Earlier::read(path)?;
            old.subject.same_as(&new.subject)?;
            return compare::tell(&old, &new.figures, &new.machine);
        }
        let mut bench = self;
        if arguments.is_empty() {
            arguments.clone_from(&old.arguments);
            bench = Bench {
                json: bench.json,
                no_build: bench.no_build,
                background: bench.background,
                ..again(&arguments)?
            };
        }
        let results = bench.measure(arguments, Some(&old))?;
        compare::tell(&old, &results.figures, &report::machine())
    }

    fn measure(&self, arguments: Vec<String>, earlier: Option<&Earlier>) -> Result<Results> {
        let begun = Instant::now();
        self.check_room()?;
        let base = self.directory();
        let directory = match self.derive {
            Some(rows) => derive::directory(&base, rows)?,
            None => base.clone(),
        };
        let set = Set::read(&directory, self.metric, self.rows)?;
        let derived_from = self.derive.map(|_| Set::read(&base, self.metric, None)).transpose()?;

        let cluster = self.cluster()?;
        let types = load::database(&cluster, self.vs.is_some())?;
        let ground = self.ground(&cluster, &set, types);
        if let Some(old) = earlier {
            old.subject.same_as(&report::subject(&ground, &set))?; // before an hour of work
        }
        let mut results = Results::new(&ground, &set, derived_from.as_ref(), arguments)?;
        self.compare_engines(&ground, &mut results)?;
        self.look_at_sealed(&ground, &set, derived_from.as_ref(), &mut results)?;
        self.write_rows(&ground, derived_from.as_ref().unwrap_or(&set), &mut results)?;
        cluster.stop("fast")?;
        if self.large() {
            cluster.remove()?; // some 20 GB
        }
        results.minutes = begun.elapsed().as_secs_f64() / 60.0;
        results.finish(&ground);
        results.print(&ground);
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")
                .with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(results)
    }

    fn directory(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| tree::root().join("tests/data/deb_10k"))
    }

    fn over_http(&self) -> Result<()> {
        let set = Set::read(&self.directory(), self.metric, self.rows)?;
        let cluster = self.cluster()?;
        cluster.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        cluster.connect(DATABASE)?.batch_execute("CREATE EXTENSION sealvec")?;
        let ground = self.ground(&cluster, &set, Types::default());
        let rest = rest::measure(&ground, &sidecar::program(self.version(), Profile::Release)?)?;
        cluster.stop("fast")?;
        rest.print(&report::machine());
        Ok(())
    }

    /// Builds and queries of every method.
    fn compare_engines(&self, ground: &Ground, results: &mut Results) -> Result<()> {
        let mut sealed = vec![("sealed_ivf", Engine::Sealed, "sealed")];
        load::table(ground.cluster, Engine::Sealed, "sealed", ground.vectors)?;
        let memory = self.memory(Engine::Sealed);
        results.builds.push(measure::build(ground, Engine::Sealed, "sealed_index", "sealed", memory)?);
        measure::check_plan(ground, Engine::Sealed, "sealed", "sealed_index")?;
        if self.wants(Part::Filled) && ground.vectors.rows() <= ROWS_OF_ALL {
            results.filled = Some(filled::measure(ground)?);
            sealed.push((filled::NAME, Engine::Sealed, filled::TABLE));
        }
        let sweeps = self.wants(Part::Speed) || self.wants(Part::Profile) || self.wants(Part::Growth);
        for (name, engine, table) in sealed.iter().filter(|_| sweeps) {
            results.sweeps.push(sweep::sweep(ground, *engine, name, table, 0.996)?);
        }
        for rival in self.rivals() {
            let (table, index) = (rival.table(), format!("{}_index", rival.table()));
            load::table(ground.cluster, rival, &table, ground.vectors)?;
            results.builds.push(measure::build(ground, rival, &index, &table, self.memory(rival))?);
            measure::check_plan(ground, rival, &table, &index)?;
            if self.wants(Part::Speed) {
                results.sweeps.push(sweep::sweep(ground, rival, &rival.name(), &table, 0.991)?);
            }
        }
        if self.wants(Part::Speed) {
            results.heats = sweep::heats(ground, &results.sweeps.iter().collect::<Vec<_>>())?;
            results.defaults = defaults::measure(ground, &results.sweeps[0])?;
            results.bindings = Some(binding::measure(ground)?);
        }
        Ok(())
    }

    /// What is asked of the sealed index beside its peers' queries.
    fn look_at_sealed(
        &self,
        ground: &Ground,
        set: &Set,
        derived_from: Option<&Set>,
        results: &mut Results,
    ) -> Result<()> {
        if let Some(sweep) = results.sweeps.first()
            && self.wants(Part::Profile)
        {
            results.limits = limit::limits(ground, sweep, "sealed_index")?;
            results.profile = profile::measure(ground, sweep, &results.limits)?;
        }
        if self.wants(Part::First) {
            for engine in [Engine::Sealed].into_iter().chain(self.first_hnsw()) {
                results.first.push(first::measure(ground, engine)?);
            }
        }
        if self.wants(Part::Filter) {
            results.filters = filter::measure(ground, &set.directory, self.first_hnsw())?;
        }
        let grown = derived_from.filter(|base| base.vectors.rows() < ground.vectors.rows());
        if let (Some(base), Some(sweep), true) = (grown, results.sweeps.first(), self.wants(Part::Growth)) {
            // As many rows as the base has, but derived too, with queries of the same kind: real ones are harder.
            let small = derive::directory(&self.directory(), base.vectors.rows())?;
            let small = Set::read(&small, self.metric, None)?;
            let base = Ground { goals: ground.goals, ..self.ground(ground.cluster, &small, ground.types) };
            results.growth = Some(growth::measure(ground, sweep, &base)?);
        }
        Ok(())
    }

    /// What changes tables; the main ones last of all.
    fn write_rows(&self, ground: &Ground, base: &Set, results: &mut Results) -> Result<()> {
        if self.wants(Part::Bare) {
            results.copies = Some(bare::copy(ground, self.first_hnsw())?);
            results.scans = Some(bare::scan(ground, self.first_hnsw())?);
        }
        let few = |engine: Engine, rows: usize| if engine.is_hnsw() { rows.div_ceil(10) } else { rows };
        if self.wants(Part::Wal) {
            let rivals = self.rivals();
            let once = rivals.iter().filter(|rival| !rival.is_hnsw() || Some(**rival) == self.first_hnsw());
            for engine in [Engine::Sealed].iter().chain(once) {
                results.wal.push(measure::wal(ground, *engine, few(*engine, self.wal_rows))?);
            }
        }
        if self.wants(Part::Insert) {
            for engine in [Engine::Sealed].into_iter().chain(self.first_hnsw()) {
                results.inserts.push(insert::measure(ground, engine, &base.vectors, few(engine, self.insert_rows))?);
            }
        }
        Ok(())
    }

    fn ground<'a>(&'a self, cluster: &'a Cluster, set: &'a Set, types: Types) -> Ground<'a> {
        Ground {
            cluster,
            vectors: &set.vectors,
            queries: &set.queries,
            truth: &set.truth,
            metric: self.metric,
            precision: &self.precision,
            seconds: self.seconds,
            types,
            goals: Goals::of(set.vectors.rows(), self.derive.is_some()),
            background: self.background,
            core: if self.any_core { None } else { one_core::core() },
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn large(&self) -> bool {
        self.derive.is_some_and(|rows| rows > ROWS_OF_ALL)
    }

    fn rivals(&self) -> Vec<Engine> {
        if self.vs != Some(Rival::Pgvector) {
            return Vec::new();
        }
        let usual: &[(u32, u32)] =
            if self.large() { &[(16, 64), (24, 128)] } else { &[(16, 64), (16, 128), (24, 200), (32, 200)] };
        let mut rivals = Vec::new();
        if !self.large() {
            rivals.push(Engine::Ivfflat { lists: 250 });
        }
        if self.hnsw.is_empty() {
            rivals.extend(usual.iter().map(|&(m, ef_construction)| Engine::Hnsw { m, ef_construction }));
        } else {
            rivals.extend(&self.hnsw);
        }
        rivals
    }

    /// The hnsw that is measured where one setting must do: pgvector's defaults, unless told otherwise.
    fn first_hnsw(&self) -> Option<Engine> {
        self.rivals().into_iter().find(|rival| rival.is_hnsw())
    }

    /// maintenance_work_mem of a build: what the issue grants the sealed index, and what hnsw needs to stay in memory.
    fn memory(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sealed if self.derive.is_some() => "256MB",
            Engine::Hnsw { .. } if self.large() => "4GB",
            _ => "1GB",
        }
    }

    /// A full disk would stop every other program on it, so a large set asks before.
    fn check_room(&self) -> Result<()> {
        let Some(rows) = self.derive.filter(|_| self.large()) else { return Ok(()) };
        let hnsw = self.rivals().len();
        let wanted = rows as u64 * ROW_BYTES * (4 + 5 * hnsw as u64) / 2 + (7 << 30);
        let home = tree::clusters()?;
        let free = tree::output_of(Command::new("df").args(["--output=avail", "--block-size=1"]).arg(&home))?;
        let free: u64 = free.lines().last().unwrap_or_default().trim().parse().context("df printed no number")?;
        ensure!(
            free >= wanted,
            "expected {} GB free in {}, not {}; fewer --hnsw need less",
            wanted >> 30,
            home.display(),
            free >> 30
        );
        Ok(())
    }

    fn version(&self) -> u32 {
        self.pg.unwrap_or(if self.vs.is_some() { 16 } else { 15 })
    }

    fn cluster(&self) -> Result<Cluster> {
        // Every index and table of deb_62k fits, and every index of a million rows: the sweep times the index, not the disk.
        let buffers = if self.large() { "6GB" } else { "3GB" };
        let settings = [
            ("shared_buffers", buffers),
            ("max_wal_size", "6GB"), // no checkpoint within a measurement
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
}
