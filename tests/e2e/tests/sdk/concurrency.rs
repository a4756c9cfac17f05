//! Eight writers and eight readers at once see no error and lose nothing.

use std::time::Duration;

use sealvec_e2e::items::{Collection, Ledger, Patience};
use sealvec_e2e::sidecar::ROOT_KEY;
use sealvec_e2e::{Cluster, Sidecar, one};

/// Seconds of load; `SEALVEC_E2E_SECONDS=60` for the long form.
fn seconds() -> u64 {
    std::env::var("SEALVEC_E2E_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[test]
fn eight_writers_and_eight_readers_see_no_error_and_lose_nothing() {
    let cluster = Cluster::start("sdk-eight", &[]);
    let mut sidecar = Sidecar::start(&cluster, "eight", &[]);
    let collection = Collection::create(&sidecar, ROOT_KEY, "eight by eight");
    let writers: Vec<_> =
        (0..8).map(|number| collection.write(number, 0x5ea1, Patience::None, Ledger::default())).collect();
    let readers: Vec<_> = (0..8).map(|number| collection.read(0x0ead + number, Patience::None)).collect();
    std::thread::sleep(Duration::from_secs(seconds()));
    let mut ledgers: Vec<Ledger> = writers.into_iter().map(|writer| writer.finish()).collect();
    let readers: Vec<Ledger> = readers.into_iter().map(|reader| reader.finish()).collect();
    let count = |of: fn(&Ledger) -> usize| readers.iter().map(of).sum::<usize>();
    let read = count(|ledger| ledger.acknowledged);
    let (asked, found) = (count(|ledger| ledger.approximate), count(|ledger| ledger.approximate_found));
    let written: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{written} items written, {read} answers read in {} s; {found} of {asked} found themselves", seconds());
    assert!(written > 200 && read > 200, "there was load: {written} items, {read} answers");
    assert!(
        found * 100 >= asked * 95,
        "{found} of {asked} queries without n_probes found the item that they asked with"
    );
    collection.settle(&mut ledgers);
    let verified: i64 = one(
        &mut cluster.client(),
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sealvec-sidecar' AND state LIKE 'idle in%'",
    );
    assert_eq!(verified, 0, "no connection of the pool is left in a transaction");
    sidecar.stop();
    cluster.log_is_clean();
}
