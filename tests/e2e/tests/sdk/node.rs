//! Every call of the JavaScript SDK and of its LangChain vector store.

use std::process::Command;

use sealvec_e2e::packages::node_modules;
use sealvec_e2e::sidecar::ROOT_KEY;
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, Sidecar};

#[test]
fn every_call_of_javascript_0_14() {
    // LangChain 1.x asks for a newer node than Debian 12 has.
    let modules = node_modules("node-cyborgdb-0.14.0", &["cyborgdb@0.14.0", "@langchain/core@0.3.78"]);
    let cluster = Cluster::start("node-0-14", &[]);
    let mut sidecar = Sidecar::start(&cluster, "node-0-14", &[]);
    let said = must(
        Command::new("node")
            .arg(root().join("tests/e2e/sdk/js/run.js"))
            .env("NODE_PATH", modules)
            .env("SEALVEC_URL", sidecar.url())
            .env("SEALVEC_API_KEY", ROOT_KEY),
    );
    println!("{said}");
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    sidecar.stop();
    cluster.log_is_clean();
}
