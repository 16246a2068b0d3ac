//! The rules that both backends of the runtime keep: each case is a function of a `Runtime`.
//!
//! The real backend runs the shared cases and those that need sockets of its own (`real`). Rings are bounded: all cases of a
//! test run one after another on one executor, and the tests themselves take turns.

mod disk;
mod net;
mod support;

use support::on_shard;

#[test]
fn network() {
    on_shard(|runtime| async move {
        net::echo(&runtime).await;
    });
}

#[test]
fn files() {
    on_shard(|runtime| async move {
        let root = support::directory("files");
        let disk = runtime.disk(&root);
        disk::round_trip(&disk).await;
        support::remove(&root);
    });
}
