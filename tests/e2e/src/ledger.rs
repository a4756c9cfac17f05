//! Writers that remember what the server acknowledged, and the comparison with what is there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use postgres::{Client, Config, NoTls};

use crate::{Matrix, Random, said};

/// What may be in the table under one id: which row of the data set, or nothing. More than one possibility only for
/// the statement whose answer did not come.
type Possible = Vec<Option<usize>>;

/// What one writer knows of its ids.
#[derive(Default)]
pub struct Ledger {
    rows: BTreeMap<i32, Possible>,
    pub acknowledged: usize,
}

/// A thread that inserts, updates and deletes rows of `docs` until it is told to stop or its connection breaks.
pub struct Writer {
    thread: JoinHandle<Ledger>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Writer `number` has ids from `number * 1,000,000` on and goes on from what `ledger` says.
    pub fn start(config: Config, number: usize, seed: u64, vectors: Arc<Matrix>, ledger: Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || write(&config, number, seed, &vectors, ledger, &flag));
        Self { thread, stop }
    }

    /// Tells it to stop, waits, and takes its ledger.
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a writer does not panic")
    }
}

fn write(config: &Config, number: usize, seed: u64, vectors: &Matrix, mut ledger: Ledger, stop: &AtomicBool) -> Ledger {
    let mut random = Random::new(seed);
    let Ok(mut client) = config.connect(NoTls) else { return ledger };
    let base = number as i32 * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let live: Vec<i32> =
            ledger.rows.iter().filter(|(_, possible)| possible[..] != [None]).map(|(id, _)| *id).collect();
        let (id, wanted) = match random.below(10) {
            0..=1 if live.len() > 50 => (live[random.below(live.len())], None),
            2..=3 if live.len() > 50 => (live[random.below(live.len())], Some(random.below(vectors.rows()))),
            _ => (base + ledger.rows.len() as i32, Some(random.below(vectors.rows()))),
        };
        let result = match wanted {
            None => client.execute("DELETE FROM docs WHERE id = $1", &[&id]),
            Some(row) => client.execute(
                "INSERT INTO docs VALUES ($1, $2::real[]) ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding",
                &[&id, &vectors.row(row)],
            ),
        };
        let possible = ledger.rows.entry(id).or_insert_with(|| vec![None]);
        match result {
            Ok(_) => {
                *possible = vec![wanted];
                ledger.acknowledged += 1;
            }
            // In doubt: what was there, or what was asked for.
            Err(error) if client.is_closed() || error.code().is_none_or(|code| code.code().starts_with("57P")) => {
                possible.push(wanted);
                return ledger;
            }
            Err(error) => panic!("a writer's statement failed: {}", said(&error)),
        }
    }
    ledger
}

impl Ledger {
    /// Compares with the table: nothing acknowledged is lost, nothing else is there. Doubts are settled by what is.
    pub fn settle(&mut self, client: &mut Client, number: usize, vectors: &Matrix) {
        let (from, to) = (number as i32 * 1_000_000, (number as i32 + 1) * 1_000_000);
        let rows = client
            .query("SELECT id, sealvec.open(embedding) FROM docs WHERE id >= $1 AND id < $2", &[&from, &to])
            .unwrap_or_else(|error| panic!("reading the table: {}", said(&error)));
        let mut there: BTreeMap<i32, Vec<f32>> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (id, possible) in &mut self.rows {
            let found = there.remove(id);
            let settled = possible.iter().copied().find(|wanted| match (wanted, &found) {
                (None, None) => true,
                (Some(row), Some(found)) => vectors.row(*row) == &found[..],
                _ => false,
            });
            match settled {
                Some(settled) => *possible = vec![settled],
                None => panic!(
                    "row {id}: acknowledged {possible:?}, but {} is there",
                    if found.is_some() { "another vector" } else { "nothing" }
                ),
            }
        }
        assert!(there.is_empty(), "rows that nobody wrote: {:?}", there.keys());
    }
}
