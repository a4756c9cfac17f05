//! Alone in its process, so that threads can be counted.

mod support;

use std::fs;
use std::num::NonZeroUsize;
use std::thread;

use sealvec_embed::Catalog;
use support::{MODEL, MODEL_DIR};

fn names() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
}

#[test]
fn eight_callers_share_the_threads_they_were_promised() {
    let before = names().len();
    let catalog = Catalog::new(MODEL_DIR.clone()).with_threads(NonZeroUsize::new(2).unwrap());
    assert_eq!(names().len(), before, "no thread before the first call");

    let texts: Vec<String> = (0..40).map(|i| format!("text number {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors: Vec<Vec<f32>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| catalog.embed(MODEL, &texts).unwrap())).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });

    assert!(vectors.iter().all(|v| *v == vectors[0]), "callers got other vectors for the same texts");
    assert_eq!(names().len(), before + 2, "{:?}", names());
    assert_eq!(names().iter().filter(|name| name.starts_with("embed-")).count(), 2);
}
