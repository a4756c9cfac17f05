//! `sealvec-sidecar`: configuration, pool, router, serve.

fn main() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}
