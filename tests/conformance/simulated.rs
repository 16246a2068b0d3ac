//! What only the simulated backend can show: what a power cut leaves, and delays of its own choice.

use crate::support::world;
use armilla::runtime::Runtime;
use armilla::runtime::buffer::PageBuffer;
use armilla::runtime::disk::{Disk, Open, Persist};
use armilla::runtime::simulated::{Faults, Machine};
use std::collections::BTreeSet;
use std::path::Path;

const PAGE: usize = 4096;
const PAGES: usize = 4;

fn data(runtime: &Runtime) -> Disk {
    runtime.disk(Path::new("/data"))
}

/// Does `work` on a durable file of zeroes, cuts the power, and returns the file.
fn after_power_cut(seed: u64, persist: Persist, sync: bool) -> Vec<u8> {
    let (_simulation, machine) = world(seed);
    let done = machine.run(move |runtime| async move {
        let disk = data(&runtime);
        let len = (PAGES * PAGE) as u64;
        let file = disk.open("log", Open::Create { len }).await.expect("made");
        file.sync().await.expect("synced");
        disk.sync_dir("").await.expect("synced");
        let mut buffer = PageBuffer::zeroed(PAGES * PAGE);
        buffer.fill(7);
        let (_, written) = file.write_at(0, buffer, PAGES * PAGE, persist).await;
        written.expect("written");
        if sync {
            file.sync().await.expect("synced");
        }
    });
    done.expect("it ends by itself");
    machine.crash();
    machine.file_bytes("data/log").expect("its name was synced")
}

/// Each way of writing keeps its promise, and none of them more than that.
#[test]
fn a_power_cut_takes_what_was_not_made_durable() {
    let cases = [
        (Persist::Dsync, false, true),
        (Persist::WriteThenSync, false, true),
        (Persist::Later, true, true),
        (Persist::Later, false, false),
    ];
    for (persist, sync, durable) in cases {
        let images: BTreeSet<Vec<u8>> = (0..20)
            .map(|seed| after_power_cut(seed, persist, sync))
            .collect();
        let whole = vec![7; PAGES * PAGE];
        match durable {
            true => assert!(images.iter().all(|i| *i == whole), "{persist:?} {sync}"),
            false => assert!(images.len() > 1, "an unsynced write is always kept or lost"),
        }
    }
}

/// A created name lives from `sync_dir` on, a removed or replaced one dies by it.
#[test]
fn names_are_as_durable_as_their_directory() {
    let mut unsynced = BTreeSet::new();
    for seed in 0..20 {
        let (_simulation, machine) = world(seed);
        let done = machine.run(|runtime| async move {
            let disk = data(&runtime);
            let len = PAGE as u64;
            for name in ["kept", "old", "removed"] {
                let file = disk.open(name, Open::Create { len }).await.expect("made");
                file.sync().await.expect("synced");
            }
            disk.rename("old", "new").await.expect("renamed");
            disk.remove("removed").await.expect("removed");
            disk.sync_dir("").await.expect("synced");
            disk.open("late", Open::Create { len }).await.expect("made");
        });
        done.expect("it ends by itself");
        machine.crash();
        let mut files = machine.files();
        unsynced.insert(files.iter().any(|name| name == "data/late"));
        files.retain(|name| name != "data/late");
        assert_eq!(files, ["data/kept", "data/new"]);
    }
    assert_eq!(unsynced.len(), 2, "an unsynced name comes or goes");
}

fn replace(machine: &Machine, bytes: &'static [u8]) -> Option<()> {
    machine.run(move |runtime| async move {
        let disk = data(&runtime);
        disk.replace_small("node", bytes).await.expect("replaced");
    })
}

/// Wherever the power goes, the file is the old one or the new one, and the new one once the call has returned.
#[test]
fn a_small_file_is_replaced_as_a_whole() {
    let mut seen = BTreeSet::new();
    for (seed, io) in (0..10).flat_map(|seed| (1..=6).map(move |io| (seed, io))) {
        let (_simulation, machine) = world(seed);
        replace(&machine, b"old").expect("no cut yet");
        machine.crash_at_io(Some(machine.io_count() + io));
        let returned = replace(&machine, b"renewed").is_some();
        machine.crash();
        let bytes = machine.file_bytes("data/node").expect("never without it");
        assert!(bytes == b"renewed" || (bytes == b"old" && !returned));
        seen.insert((returned, bytes));
    }
    assert_eq!(
        seen.len(),
        3,
        "cut before, cut after, and not cut: {seen:?}"
    );
}

/// A delay is the simulator's choice: none without that fault, always with its whole probability.
#[test]
fn delays_are_a_fault() {
    for delay in [0.0, 1.0] {
        let (simulation, machine) = world(1);
        let mut faults = Faults::default();
        faults.scheduler.delay = delay;
        simulation.set_faults(faults);
        let seen = machine.run(|runtime| async move { runtime.simulated_delay() });
        assert_eq!(seen, Some(delay > 0.0));
    }
}

/// There is no ring to count for.
#[test]
fn ring_statistics_are_zero() {
    let (_simulation, machine) = world(1);
    let seen = machine.run(|runtime| async move {
        runtime.sleep(std::time::Duration::from_millis(1)).await;
        runtime.ring_statistics() == Default::default()
    });
    assert_eq!(seen, Some(true));
}
