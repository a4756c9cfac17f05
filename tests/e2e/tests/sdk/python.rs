//! Every call of the Python SDK, of both versions, and of their LangChain vector stores.

use std::path::Path;
use std::process::Command;

use sealvec_e2e::packages::{models, virtual_environment};
use sealvec_e2e::sidecar::{ROOT_KEY, SLOT};
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, Sidecar};

/// What the SDK asks for, and LangChain; `sentence_transformers`, two gigabytes, is stood in for.
const BESIDE: [&str; 2] = ["langchain-core==1.7.2", "numpy==2.4.6"];

/// The SDK and what it works with.
pub fn packages(version: &str) -> Vec<String> {
    [format!("cyborgdb=={version}")].into_iter().chain(BESIDE.map(str::to_owned)).collect()
}

fn every_call(version: &str) {
    let python = virtual_environment(&format!("python-cyborgdb-{version}"), &packages(version));
    let name = format!("python-{}", version.replace('.', "-"));
    let cluster = Cluster::start(&name, &[]);
    let models = models().display().to_string();
    let mut sidecar = Sidecar::start(&cluster, &name, &["--model-dir", &models]);
    passes(&python, &sidecar, SLOT, true, &[]);
    sidecar.stop();
    // Without a model everything else still works.
    let nowhere = cluster.home().join("no-models").display().to_string();
    let mut without = Sidecar::start(&cluster, &format!("{name}-no-model"), &["--model-dir", &nowhere]);
    passes(&python, &without, SLOT, false, &["embedding"]);
    without.stop();
    cluster.log_is_clean();
}

/// Runs the scripts, or only some groups of them, with KMS-backed indexes on `slot`.
pub fn passes(python: &Path, sidecar: &Sidecar, slot: &str, has_model: bool, groups: &[&str]) {
    let scripts = root().join("tests/e2e/sdk/python");
    let said = must(
        Command::new(python)
            .arg(scripts.join("run.py"))
            .args(groups)
            .env("PYTHONPATH", scripts.join("stand_in"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SEALVEC_URL", sidecar.url())
            .env("SEALVEC_API_KEY", ROOT_KEY)
            .env("SEALVEC_KMS_SLOT", slot)
            .env("SEALVEC_HAS_MODEL", if has_model { "1" } else { "0" }),
    );
    println!("{said}");
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
}

#[test]
fn every_call_of_python_0_17() {
    every_call("0.17.0");
}

#[test]
fn every_call_of_python_0_18() {
    every_call("0.18.0");
}
