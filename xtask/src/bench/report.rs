//! What the benchmark prints: tables for a person, and the same as JSON.

use std::fs;

use anyhow::Result;
use serde::Serialize;

use super::bare::{Copies, Scans};
use super::binding::Bindings;
use super::compare::Subject;
use super::defaults::Defaults;
use super::figure::{Figure, table};
use super::filled::{self, Filled};
use super::filter::Filtered;
use super::first::First;
use super::growth::Growth;
use super::insert::Inserts;
use super::limit::Limit;
use super::measure::{Build, Ground, Wal};
use super::profile::Profile;
use super::set::Set;
use super::sweep::{Heat, Sweep, Timing};
use super::{filter, first, insert, limit};

#[derive(Serialize)]
pub struct Results {
    machine: String,
    server: String,
    /// The command line, for a later run to compare with this one.
    arguments: Vec<String>,
    #[serde(flatten)]
    pub subject: Subject,
    /// For a derived set: what from, and how its local intrinsic dimension compares.
    derived: Option<String>,
    /// The table: what is compared with what is wanted, and with an earlier run.
    pub figures: Vec<Figure>,
    pub builds: Vec<Build>,
    pub sweeps: Vec<Sweep>,
    pub filled: Option<Filled>,
    pub heats: Vec<Heat>,
    pub defaults: Option<Defaults>,
    pub bindings: Option<Bindings>,
    pub profile: Option<Profile>,
    pub limits: Vec<Limit>,
    pub first: Vec<First>,
    pub filters: Vec<Filtered>,
    pub growth: Option<Growth>,
    pub copies: Option<Copies>,
    pub scans: Option<Scans>,
    pub wal: Vec<Wal>,
    pub inserts: Vec<Inserts>,
    pub minutes: f64,
}

/// What a run is about.
pub fn subject(ground: &Ground, set: &Set) -> Subject {
    Subject {
        data: set.name(),
        rows: ground.vectors.rows(),
        dims: ground.vectors.dims,
        queries: ground.queries.rows(),
        metric: ground.metric.name().to_owned(),
        precision: ground.precision.to_owned(),
    }
}

impl Results {
    pub fn new(ground: &Ground, set: &Set, derived_from: Option<&Set>, arguments: Vec<String>) -> Result<Self> {
        let server = ground.cluster.connect("postgres")?.query_one("SHOW server_version", &[])?.get(0);
        let derived = derived_from
            .map(|base| -> Result<String> {
                Ok(format!(
                    "derived from {} ({} rows) by interpolation between near rows and noise, seeded; \
                     local intrinsic dimension {:.1}, that of the base {:.1}",
                    base.name(),
                    base.vectors.rows(),
                    set.intrinsic_dimension()?,
                    base.intrinsic_dimension()?
                ))
            })
            .transpose()?;
        Ok(Self {
            machine: machine(),
            server,
            arguments,
            subject: subject(ground, set),
            derived,
            figures: Vec::new(),
            builds: Vec::new(),
            sweeps: Vec::new(),
            filled: None,
            heats: Vec::new(),
            defaults: None,
            bindings: None,
            profile: None,
            limits: Vec::new(),
            first: Vec::new(),
            filters: Vec::new(),
            growth: None,
            copies: None,
            scans: None,
            wal: Vec::new(),
            inserts: Vec::new(),
            minutes: 0.0,
        })
    }

    /// Draws up the table.
    pub fn finish(&mut self, ground: &Ground) {
        let mut figures = self.speed(ground);
        figures.extend(self.defaults.iter().flat_map(Defaults::figures));
        figures.extend(self.sizes(ground));
        figures.extend(insert::figures(&self.inserts));
        figures.extend(self.growth.iter().flat_map(Growth::figures));
        figures.extend(filter::figures(&self.filters));
        figures.extend(first::figures(ground, &self.first));
        figures.extend(self.copies.iter().flat_map(|copies| copies.figures(ground)));
        figures.extend(self.scans.iter().flat_map(Scans::figures));
        figures.extend(self.wal.iter().filter(|wal| wal.engine == "sealed_ivf").map(|wal| {
            Figure::lower("index WAL of a row inserted", wal.index_bytes_per_row, "B")
                .note(format!("{} rows", wal.rows))
        }));
        figures.extend(self.bindings.iter().flat_map(Bindings::figures));
        figures.extend(limit::figures(&self.limits));
        figures.extend(self.profile.iter().flat_map(|profile| profile.figures(ground)));
        self.figures = figures;
    }

    /// Queries a second at each level, and how many times hnsw's at its best setting.
    fn speed(&self, ground: &Ground) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (heat, level) in self.heats.iter().zip(&ground.goals.levels) {
            let entry = |number: usize| heat.entries[number].as_ref();
            let hnsw = (0..self.sweeps.len()).filter(|&number| self.sweeps[number].engine.is_hnsw());
            let best = hnsw
                .filter_map(|number| Some((&self.sweeps[number].name, entry(number)?)))
                .max_by(|a, b| a.1.timing.qps.total_cmp(&b.1.timing.qps));
            // A level that is not reached is a figure too, and the worst.
            let (qps, cpu, setting) = entry(0).map_or((0.0, f64::INFINITY, "not reached"), |entry| {
                (entry.timing.qps, entry.timing.cpu_us, &entry.setting)
            });
            let at = format!("recall@10 ≥ {}", level.recall);
            figures.push(Figure::higher(format!("QPS at {at}"), qps, "").note(setting));
            if let Some((name, hnsw)) = best {
                let note = format!(
                    "{name}, {}: {:.0} QPS; by CPU time {:.2} x",
                    hnsw.setting,
                    hnsw.timing.qps,
                    hnsw.timing.cpu_us / cpu
                );
                figures.push(
                    Figure::higher(format!("QPS / hnsw at {at}"), qps / hnsw.timing.qps, "x")
                        .wanted(level.times_hnsw)
                        .note(note),
                );
            }
        }
        figures
    }

    /// Build time, bytes and memory.
    fn sizes(&self, ground: &Ground) -> Vec<Figure> {
        let Some(sealed) = self.builds.first() else { return Vec::new() };
        let limit = |figure: Figure, limit: Option<f64>| limit.into_iter().fold(figure, Figure::wanted);
        let goals = &ground.goals;
        let others = |unit: &str, value: fn(&Build) -> f64| {
            let rest = self.builds.iter().skip(1);
            rest.map(|build| format!("{} {:.1} {unit}", build.engine, value(build))).collect::<Vec<_>>().join(", ")
        };
        let mib = |build: &Build| build.index_bytes as f64 / (1 << 20) as f64;
        let mut figures = vec![
            limit(Figure::lower("build", sealed.seconds, "s"), goals.build_seconds)
                .note(others("s", |build| build.seconds)),
        ];
        if let Some(ivfflat) = self.builds.iter().find(|build| build.engine == "ivfflat") {
            figures.push(Figure::lower("build / ivfflat", sealed.seconds / ivfflat.seconds, "x").wanted(2.0));
        }
        figures.push(limit(Figure::lower("index size", mib(sealed), "MiB"), goals.index_mib).note(others("MiB", mib)));
        let (own, all) = (sealed.private_kb as f64 / 1024.0, sealed.peak_kb as f64 / 1024.0);
        let note = format!("maintenance_work_mem {}", sealed.maintenance_work_mem);
        let resident = Figure::lower("build, peak resident memory", all, "MiB").note("shared buffers included");
        figures.extend([
            limit(Figure::lower("build, peak of its own memory", own, "MiB"), goals.build_own_mib).note(note),
            limit(resident, goals.build_resident_mib),
        ]);
        figures
    }

    pub fn print(&self, ground: &Ground) {
        let subject = &self.subject;
        println!(
            "{} rows of {} dimensions ({}), {} queries, {}, sealed index in {}",
            subject.rows, subject.dims, subject.data, subject.queries, subject.metric, subject.precision
        );
        if let Some(derived) = &self.derived {
            println!("{derived}");
        }
        println!("Postgres {}; {}; {:.1} minutes", self.server, self.machine, self.minutes);

        for sweep in &self.sweeps {
            println!("\n{} on table {}", sweep.name, sweep.table);
            println!(
                "  {:14} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "setting", "recall@10", "QPS", "p50 µs", "p99 µs", "CPU µs"
            );
            for point in &sweep.points {
                println!(
                    "  {:14} {:9.4} {:9.0} {:9.0} {:9.0} {:9.0}",
                    point.setting,
                    point.recall,
                    point.timing.qps,
                    point.timing.p50_us,
                    point.timing.p99_us,
                    point.timing.cpu_us
                );
            }
            println!(
                "  backend memory: peak {} MB with shared buffers, {} MB its own",
                sweep.peak_kb / 1024,
                sweep.private_kb / 1024
            );
        }

        println!("\n  {:12} {:>9} {:>11} {:>17} {:>9}", "index", "build s", "index MB", "build peak MB", "(own MB)");
        for build in &self.builds {
            println!(
                "  {:12} {:9.1} {:11.1} {:17} {:9}",
                build.engine,
                build.seconds,
                megabytes(build.index_bytes),
                build.peak_kb / 1024,
                build.private_kb / 1024
            );
        }
        if let Some(filled) = &self.filled {
            println!(
                "  {:12} {:9.1} {:11.1}   (made empty, then filled)",
                "sealed_ivf",
                filled.seconds,
                megabytes(filled.index_bytes)
            );
        }

        if !self.wal.is_empty() {
            self.print_wal();
        }
        insert::print(&self.inserts);
        filter::print(&self.filters);
        first::print(&self.first);
        limit::print(&self.limits);
        if let Some(profile) = &self.profile {
            profile.print();
        }
        self.print_heats();
        println!("\n{}", table(&self.figures));
        if let Some(derived) = &self.derived {
            println!("{} rows {derived}", subject.rows);
        }
        let wanted = self.figures.iter().filter_map(Figure::met);
        let (met, all) = wanted.fold((0, 0), |(met, all), is| (met + usize::from(is), all + 1));
        println!(
            "{met} of {all} met{}",
            if ground.goals.build_seconds.is_none() { "; of another set than the issue's" } else { "" }
        );
    }

    fn print_wal(&self) {
        println!(
            "\n  {:12} {:>10} {:>16} {:>16} {:>10}",
            "inserts", "rows", "index WAL B/row", "table WAL B/row", "rows/s"
        );
        for wal in &self.wal {
            println!(
                "  {:12} {:10} {:16.0} {:16.0} {:10.0}",
                wal.engine, wal.rows, wal.index_bytes_per_row, wal.table_bytes_per_row, wal.inserts_per_second
            );
        }
    }

    fn print_heats(&self) {
        if self.heats.is_empty() {
            return;
        }
        println!("\nbest QPS at recall@10 of at least (best of turns in one go; µs of CPU a query)");
        println!("  {:24} {}", "", columns(self.heats.iter().map(|heat| heat.level.to_string())));
        for (number, sweep) in self.sweeps.iter().enumerate() {
            let cells = self.heats.iter().map(|heat| match &heat.entries[number] {
                Some(entry) => format!("{:.0}, {:.0} µs ({})", entry.timing.qps, entry.timing.cpu_us, entry.setting),
                None => String::from("not reached"),
            });
            println!("  {:24} {}", sweep.name, columns(cells));
        }
        for (number, sweep) in self.sweeps.iter().enumerate().skip(1) {
            let cells = self.heats.iter().map(|heat| match (&heat.entries[0], &heat.entries[number]) {
                (Some(ours), Some(other)) if sweep.name == filled::NAME => ratio(&other.timing, &ours.timing),
                (Some(ours), Some(other)) => ratio(&ours.timing, &other.timing),
                _ => String::from("-"),
            });
            let label = if sweep.name == filled::NAME {
                String::from("filled / fresh")
            } else {
                format!("sealed_ivf / {}", sweep.name)
            };
            println!("  {label:24} {}", columns(cells));
        }
    }
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>28}")).collect::<Vec<_>>().join(" ")
}

/// How many times as fast `a` is as `b`, by the clock and by CPU time.
fn ratio(a: &Timing, b: &Timing) -> String {
    format!("{:.2} x, CPU {:.2} x", a.qps / b.qps, b.cpu_us / a.cpu_us)
}

fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}

pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} cores, load {}",
        model.unwrap_or_else(|| String::from("unknown CPU")),
        std::thread::available_parallelism().map_or(1, usize::from),
        load.split(' ').next().unwrap_or("?")
    )
}
