//! What the benchmark prints: tables for a person, and the same as JSON.

use std::fs;

use anyhow::Result;
use serde::Serialize;

use super::measure::{Build, Ground, Wal};
use super::sweep::{Heat, Sweep, Timing};
use super::{Bench, FILLED};

#[derive(Serialize)]
pub struct Results {
    machine: String,
    server: String,
    data: String,
    rows: usize,
    dims: usize,
    queries: usize,
    metric: &'static str,
    precision: String,
    pub builds: Vec<Build>,
    pub sweeps: Vec<Sweep>,
    pub filled: Option<Filled>,
    pub wal: Vec<Wal>,
    pub heats: Vec<Heat>,
    pub minutes: f64,
}

#[derive(Serialize)]
pub struct Filled {
    pub seconds: f64,
    pub index_bytes: i64,
}

impl Results {
    pub fn new(bench: &Bench, ground: &Ground) -> Result<Self> {
        let server = ground.cluster.connect("postgres")?.query_one("SHOW server_version", &[])?.get(0);
        Ok(Self {
            machine: machine(),
            server,
            data: bench.data.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            rows: ground.vectors.rows(),
            dims: ground.vectors.dims,
            queries: ground.queries.rows(),
            metric: ground.metric.name(),
            precision: ground.precision.to_owned(),
            builds: Vec::new(),
            sweeps: Vec::new(),
            filled: None,
            wal: Vec::new(),
            heats: Vec::new(),
            minutes: 0.0,
        })
    }

    pub fn print(&self) {
        println!(
            "{} rows of {} dimensions ({}), {} queries, {}, sealed index in {}",
            self.rows, self.dims, self.data, self.queries, self.metric, self.precision
        );
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

        println!("\nbest QPS at recall@10 of at least (best of turns in one go; µs of CPU a query)");
        println!("  {:24} {}", "", columns(self.heats.iter().map(|heat| format!("{:.2}", heat.level))));
        for (number, sweep) in self.sweeps.iter().enumerate() {
            let cells = self.heats.iter().map(|heat| match &heat.entries[number] {
                Some(entry) => format!("{:.0}, {:.0} µs ({})", entry.timing.qps, entry.timing.cpu_us, entry.setting),
                None => String::from("not reached"),
            });
            println!("  {:24} {}", sweep.name, columns(cells));
        }
        for (number, sweep) in self.sweeps.iter().enumerate().skip(1) {
            let cells = self.heats.iter().map(|heat| match (&heat.entries[0], &heat.entries[number]) {
                (Some(ours), Some(other)) if sweep.name == FILLED => ratio(&other.timing, &ours.timing),
                (Some(ours), Some(other)) => ratio(&ours.timing, &other.timing),
                _ => String::from("-"),
            });
            let label = if sweep.name == FILLED {
                String::from("filled / fresh")
            } else {
                format!("sealed_ivf / {}", sweep.name)
            };
            println!("  {label:24} {}", columns(cells));
        }
        let sealed = self.builds.iter().find(|build| build.engine == "sealed_ivf");
        for rival in self.builds.iter().filter(|build| build.engine != "sealed_ivf") {
            if let Some(sealed) = sealed {
                println!(
                    "  sealed_ivf / {}: {:.2} x index bytes, {:.2} x build time",
                    rival.engine,
                    sealed.index_bytes as f64 / rival.index_bytes as f64,
                    sealed.seconds / rival.seconds
                );
            }
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
