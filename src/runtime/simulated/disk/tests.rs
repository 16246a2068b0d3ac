//! What a disk keeps and loses, and every fault it can have.

use crate::runtime::Runtime;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{Disk, DiskCause, File, Open, Persist};
use crate::runtime::simulated::faults::DiskFaults;
use crate::runtime::simulated::{Faults, Machine, Simulation};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const PAGE: usize = 4096;
const CREATE: Open = Open::Create { len: 64 * 1024 };

fn world(seed: u64, disk: DiskFaults) -> (Simulation, Machine) {
    let simulation = Simulation::new(
        seed,
        Faults {
            disk,
            ..Faults::default()
        },
    );
    let machine = simulation.machine("a");
    (simulation, machine)
}

fn data(runtime: &Runtime) -> Disk {
    runtime.disk(Path::new("/data"))
}

fn page(byte: u8) -> PageBuffer {
    let mut page = PageBuffer::zeroed(PAGE);
    page.fill(byte);
    page
}

async fn put(file: &File, number: u64, byte: u8, persist: Persist) -> Result<(), DiskCause> {
    let (_, done) = file
        .write_at(number * PAGE as u64, page(byte), PAGE, persist)
        .await;
    done.map_err(|error| error.cause)
}

/// A file whose name and length are durable.
async fn durable_file(runtime: &Runtime, name: &str) -> File {
    let disk = data(runtime);
    let file = disk.open(name, CREATE).await.unwrap();
    file.sync().await.unwrap();
    disk.sync_dir("").await.unwrap();
    file
}

/// The first byte of each sector of a page after a power cut that came just after `work`.
fn after_cut(seed: u64, work: impl AsyncFnOnce(&File) + 'static) -> Vec<u8> {
    let (_simulation, machine) = world(seed, DiskFaults::default());
    machine
        .run(|runtime| async move {
            let file = durable_file(&runtime, "log").await;
            work(&file).await;
        })
        .unwrap();
    machine.crash();
    let bytes = machine.file_bytes("data/log").expect("its name was synced");
    assert_eq!(bytes.len(), 64 * 1024);
    bytes[..PAGE].iter().step_by(512).copied().collect()
}

#[test]
fn unsynced_sectors_are_kept_lost_and_torn() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let sectors = after_cut(seed, async |file: &File| {
            put(file, 0, 1, Persist::Dsync).await.unwrap();
            put(file, 0, 2, Persist::Later).await.unwrap();
            put(file, 0, 3, Persist::Later).await.unwrap();
        });
        assert!(
            sectors.iter().all(|byte| (1..=3).contains(byte)),
            "{sectors:?}"
        );
        seen.extend(sectors);
    }
    // The middle one: a later write was lost where an earlier one was kept.
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_later_write_survives_without_an_earlier_one() {
    let survived = (0..40).filter(|seed| {
        let (_simulation, machine) = world(*seed, DiskFaults::default());
        machine.run(|runtime| async move {
            let file = durable_file(&runtime, "log").await;
            put(&file, 0, 1, Persist::Later).await.unwrap();
            put(&file, 1, 1, Persist::Later).await.unwrap();
        });
        machine.crash();
        let bytes = machine.file_bytes("data/log").unwrap();
        bytes[0] == 0 && bytes[PAGE] == 1
    });
    assert!(survived.count() > 0);
}

#[test]
fn synced_data_is_never_lost() {
    for seed in 0..40 {
        for how in 0..3 {
            let sectors = after_cut(seed, async move |file: &File| match how {
                0 => put(file, 0, 9, Persist::Dsync).await.unwrap(),
                1 => put(file, 0, 9, Persist::WriteThenSync).await.unwrap(),
                _ => {
                    put(file, 0, 9, Persist::Later).await.unwrap();
                    file.sync().await.unwrap();
                }
            });
            assert_eq!(sectors, [9; 8], "seed {seed}, way {how}");
        }
    }
}

#[test]
fn a_dsync_covers_its_own_range_only_and_a_write_then_sync_the_file() {
    let lost = |persist| {
        let lost = (0..40).filter(|seed| {
            let sectors = after_cut(*seed, async move |file: &File| {
                put(file, 0, 5, Persist::Later).await.unwrap();
                put(file, 1, 5, persist).await.unwrap();
            });
            sectors != [5; 8]
        });
        lost.count()
    };
    assert!(lost(Persist::Dsync) > 0);
    assert_eq!(lost(Persist::WriteThenSync), 0);
}

#[test]
fn an_old_unsynced_write_never_covers_a_newer_durable_one() {
    for seed in 0..40 {
        let sectors = after_cut(seed, async |file: &File| {
            put(file, 0, 1, Persist::Later).await.unwrap();
            put(file, 0, 2, Persist::Dsync).await.unwrap();
        });
        assert_eq!(sectors, [2; 8]);
    }
}

#[test]
fn a_sync_does_not_cover_a_write_still_in_flight() {
    let lost = (0..60).filter(|seed| {
        let sectors = after_cut(*seed, async |file: &File| {
            let write = async {
                put(file, 0, 7, Persist::Later).await.unwrap();
            };
            let sync = async {
                file.sync().await.unwrap();
            };
            futures_lite::future::zip(write, sync).await;
        });
        sectors != [7; 8]
    });
    assert!(lost.count() > 0);
}

#[test]
fn a_kill_keeps_completed_writes_visible_but_not_durable() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let (_simulation, machine) = world(seed, DiskFaults::default());
        machine.run(|runtime| async move {
            let file = durable_file(&runtime, "log").await;
            put(&file, 0, 4, Persist::Later).await.unwrap();
        });
        machine.kill();
        assert_eq!(machine.file_bytes("data/log").unwrap()[0], 4);
        machine.crash();
        seen.insert(machine.file_bytes("data/log").unwrap()[0]);
    }
    assert_eq!(seen, BTreeSet::from([0, 4]));
}

/// Which of some files are there after a cut, over many seeds.
fn names_after_cut(work: impl AsyncFn(&Disk) + Copy + 'static) -> BTreeSet<Vec<String>> {
    (0..60)
        .map(|seed| {
            let (_simulation, machine) = world(seed, DiskFaults::default());
            machine
                .run(|runtime| async move {
                    let disk = data(&runtime);
                    work(&disk).await;
                })
                .unwrap();
            machine.crash();
            machine.files()
        })
        .collect()
}

fn outcomes(of: &[&[&str]]) -> BTreeSet<Vec<String>> {
    of.iter()
        .map(|names| names.iter().map(|name| format!("data/{name}")).collect())
        .collect()
}

#[test]
fn a_new_name_may_vanish_even_if_its_data_was_synced() {
    let seen = names_after_cut(async |disk: &Disk| {
        let file = disk.open("a", CREATE).await.unwrap();
        file.sync().await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&[], &["a"]]));
    let seen = names_after_cut(async |disk: &Disk| {
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&["a"]]));
}

#[test]
fn an_unsynced_rename_leaves_one_name_and_an_unsynced_removal_may_return() {
    let seen = names_after_cut(async |disk: &Disk| {
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.rename("a", "b").await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&["a"], &["b"]]));
    let seen = names_after_cut(async |disk: &Disk| {
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.remove("a").await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&[], &["a"]]));
}

#[test]
fn changes_of_one_name_keep_their_order_and_others_do_not() {
    // Recycled: the old file keeps one of its names, however the rest is decided.
    let seen = names_after_cut(async |disk: &Disk| {
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.rename("a", "b").await.unwrap();
        disk.open("a", CREATE).await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&["a"], &["b"], &["a", "b"]]));
    let seen = names_after_cut(async |disk: &Disk| {
        disk.open("a", CREATE).await.unwrap();
        disk.open("b", CREATE).await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&[], &["a"], &["b"], &["a", "b"]]));
}

#[test]
fn a_rename_between_directories_needs_both_syncs() {
    let seen = names_after_cut(async |disk: &Disk| {
        disk.create_dir("x/y").await.unwrap();
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.rename("a", "x/y/a").await.unwrap();
        disk.sync_dir("").await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&["a"], &["x/y/a"]]));
    let seen = names_after_cut(async |disk: &Disk| {
        disk.create_dir("x/y").await.unwrap();
        disk.open("a", CREATE).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.rename("a", "x/y/a").await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.sync_dir("x/y").await.unwrap();
    });
    assert_eq!(seen, outcomes(&[&["x/y/a"]]));
}

#[test]
fn an_unsynced_length_may_come_back_shorter() {
    let mut lens = BTreeSet::new();
    for seed in 0..40 {
        let (_simulation, machine) = world(seed, DiskFaults::default());
        machine.run(|runtime| async move {
            let disk = data(&runtime);
            let file = disk.open("a", CREATE).await.unwrap();
            disk.sync_dir("").await.unwrap();
            put(&file, 1, 8, Persist::Dsync).await.unwrap();
        });
        machine.crash();
        let bytes = machine.file_bytes("data/a").unwrap();
        assert_eq!(
            bytes[PAGE..2 * PAGE],
            [8; PAGE],
            "a Dsync carries the length that it needs"
        );
        lens.insert(bytes.len());
    }
    assert!(lens.contains(&(2 * PAGE)) && lens.contains(&(64 * 1024)));
}

#[test]
fn a_small_file_is_the_old_one_or_the_new_one_wherever_the_power_goes() {
    let mut seen = BTreeSet::new();
    for (seed, io) in (0..8).flat_map(|seed| (1..=6).map(move |io| (seed, io))) {
        let (_simulation, machine) = world(seed, DiskFaults::default());
        let write = |bytes: &'static [u8]| {
            machine.run(move |runtime| async move {
                data(&runtime).replace_small("node", bytes).await.unwrap();
            })
        };
        write(b"old").unwrap();
        machine.crash_at_io(Some(machine.io_count() + io));
        let done = write(b"renewed");
        machine.crash();
        let now = machine
            .run(|runtime| async move { data(&runtime).read_small("node").await.unwrap() })
            .or_else(|| machine.file_bytes("data/node"))
            .unwrap();
        assert!(now == b"renewed" || now == b"old" && done.is_none());
        seen.insert((done.is_some(), now));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn every_place_to_crash_is_met_once() {
    let ios = {
        let (_simulation, machine) = world(1, DiskFaults::default());
        machine.run(|runtime| async move {
            data(&runtime).replace_small("node", b"x").await.unwrap();
        });
        machine.io_count()
    };
    assert_eq!(ios, 5, "create, write, sync, rename, sync of the directory");
    for io in 1..=ios {
        let (_simulation, machine) = world(1, DiskFaults::default());
        machine.crash_at_io(Some(io));
        let done = machine.run(|runtime| async move {
            data(&runtime).replace_small("node", b"x").await.unwrap();
        });
        assert_eq!((done, machine.io_count()), (None, io));
    }
}

#[test]
fn a_lock_has_one_holder_and_ends_with_its_process() {
    let (simulation, machine) = world(1, DiskFaults::default());
    let take = |machine: &Machine| {
        machine
            .run(|runtime| async move {
                let lock = data(&runtime).lock("LOCK").await;
                lock.map(drop).map_err(|error| error.cause)
            })
            .unwrap()
    };
    let hold = |machine: &Machine| {
        machine.start(|runtime| async move {
            let _lock = data(&runtime).lock("LOCK").await.unwrap();
            runtime.sleep(Duration::from_secs(1_000)).await;
        });
        simulation.run_for(Duration::from_secs(1));
    };
    hold(&machine);
    assert_eq!(take(&machine), Err(DiskCause::Locked));
    machine.kill();
    assert_eq!(take(&machine), Ok(()));
    assert_eq!(take(&machine), Ok(()), "dropping it released it");
    hold(&machine);
    machine.crash();
    assert_eq!(take(&machine), Ok(()));
}

#[test]
fn names_are_checked() {
    let (_simulation, machine) = world(1, DiskFaults::default());
    machine
        .run(|runtime| async move {
            let disk = data(&runtime);
            let cause = |done: Result<File, crate::runtime::disk::DiskError>| {
                done.map(drop).map_err(|error| error.cause)
            };
            assert_eq!(
                cause(disk.open("a", Open::Existing).await),
                Err(DiskCause::NotFound)
            );
            let file = disk.open("a", CREATE).await.unwrap();
            assert_eq!(cause(disk.open("a", CREATE).await), Err(DiskCause::Exists));
            assert_eq!(
                cause(disk.open("no/a", CREATE).await),
                Err(DiskCause::NotFound)
            );
            let past = file.read_at(64 * 1024, PAGE).await.map(drop);
            assert_eq!(past.map_err(|error| error.cause), Err(DiskCause::PastEnd));
            disk.create_dir("d/e").await.unwrap();
            disk.create_dir("d/e").await.unwrap();
            disk.open("d/e/f", CREATE).await.unwrap();
            assert_eq!(disk.list("").await.unwrap(), ["a", "d"]);
            assert_eq!(disk.list("d/e").await.unwrap(), ["f"]);
            assert!(disk.list("x").await.is_err());
            // An open file outlives its name.
            put(&file, 0, 3, Persist::Dsync).await.unwrap();
            disk.remove("a").await.unwrap();
            disk.sync_dir("").await.unwrap();
            assert_eq!(file.read_at(0, PAGE).await.unwrap()[0], 3);
        })
        .unwrap();
}

/// Writes and reads page 0 under faults: what the write, a sync and the read said, and the first
/// byte read.
fn under(
    faults: DiskFaults,
) -> (
    Result<(), DiskCause>,
    Result<(), DiskCause>,
    Result<PageBuffer, DiskCause>,
) {
    let (simulation, machine) = world(3, DiskFaults::default());
    machine.run(|runtime| async move {
        let file = durable_file(&runtime, "log").await;
        for number in 0..16 {
            put(&file, number, 1, Persist::Dsync).await.unwrap();
        }
    });
    simulation.set_faults(Faults {
        disk: faults,
        ..Faults::default()
    });
    machine
        .run(|runtime| async move {
            let file = data(&runtime).open("log", Open::Existing).await.unwrap();
            let written = put(&file, 0, 2, Persist::Later).await;
            let synced = file.sync().await.map_err(|error| error.cause);
            let read = file.read_at(0, PAGE).await.map_err(|error| error.cause);
            (written, synced, read)
        })
        .unwrap()
}

#[test]
fn every_kind_of_fault_is_shown() {
    const EIO: DiskCause = DiskCause::Os(5);
    let (written, synced, read) = under(DiskFaults::default());
    assert_eq!(
        (written, synced, &read.unwrap()[..]),
        (Ok(()), Ok(()), &[2; PAGE][..])
    );
    assert_eq!(
        under(DiskFaults {
            read_error: 1.0,
            ..DiskFaults::default()
        })
        .2
        .err(),
        Some(EIO)
    );

    let (written, _, read) = under(DiskFaults {
        write_error: 1.0,
        ..DiskFaults::default()
    });
    assert_eq!(written, Err(EIO));
    let read = read.unwrap();
    assert!(
        read.contains(&1) && read.contains(&2),
        "a failed write is there in part"
    );

    assert_eq!(
        under(DiskFaults {
            sync_error: 1.0,
            ..DiskFaults::default()
        })
        .1,
        Err(EIO)
    );

    let (_, _, read) = under(DiskFaults {
        bit_rot: 1.0,
        ..DiskFaults::default()
    });
    let flipped: u32 = read
        .unwrap()
        .iter()
        .map(|byte| (byte ^ 2).count_ones())
        .sum();
    assert_eq!(flipped, 1);

    let (written, _, read) = under(DiskFaults {
        misdirected_write: 1.0,
        ..DiskFaults::default()
    });
    assert_eq!((written, &read.unwrap()[..]), (Ok(()), &[1; PAGE][..]));

    let (_, _, read) = under(DiskFaults {
        misdirected_read: 1.0,
        ..DiskFaults::default()
    });
    assert_eq!(read.unwrap()[..], [1; PAGE]);

    let (written, synced, read) = under(DiskFaults {
        lost_write: 1.0,
        ..DiskFaults::default()
    });
    assert_eq!(
        (written, synced, &read.unwrap()[..]),
        (Ok(()), Ok(()), &[1; PAGE][..])
    );
}

#[test]
fn a_failed_sync_loses_the_writes_and_the_next_one_lies() {
    let (_simulation, machine) = world(1, DiskFaults::default());
    let ios = machine.clone();
    machine
        .run(|runtime| async move {
            let file = durable_file(&runtime, "log").await;
            put(&file, 0, 6, Persist::Later).await.unwrap();
            ios.fail_io(ios.io_count() + 1, DiskCause::Os(5));
            assert!(file.sync().await.is_err());
            file.sync().await.unwrap();
            assert_eq!(
                file.read_at(0, PAGE).await.unwrap()[0],
                6,
                "still in the cache"
            );
        })
        .unwrap();
    machine.crash();
    assert_eq!(machine.file_bytes("data/log").unwrap()[0], 0);
}

#[test]
fn a_disk_has_an_end_and_slow_days() {
    let (_simulation, machine) = world(
        1,
        DiskFaults {
            capacity: Some(100_000),
            ..DiskFaults::default()
        },
    );
    machine
        .run(|runtime| async move {
            let disk = data(&runtime);
            disk.open("a", CREATE).await.unwrap();
            assert_eq!(disk.space().await.unwrap().free_bytes, 100_000 - 64 * 1024);
            let full = disk.open("b", CREATE).await.map(drop);
            assert_eq!(full.map_err(|error| error.cause), Err(DiskCause::NoSpace));
            disk.remove("a").await.unwrap();
            disk.open("b", CREATE).await.unwrap();
        })
        .unwrap();
    let time = |slow| {
        let (simulation, machine) = world(
            1,
            DiskFaults {
                slow,
                ..DiskFaults::default()
            },
        );
        machine.run(|runtime| async move { data(&runtime).sync_dir("").await.unwrap() });
        simulation.now().0
    };
    assert!(time(1.0) > 50 * time(0.0));
}

#[test]
fn a_disk_is_spoiled_and_rolled_back_from_outside() {
    let (_simulation, machine) = world(1, DiskFaults::default());
    let write = |byte| {
        machine.run(move |runtime| async move {
            let disk = data(&runtime);
            let file = match disk.open("log", Open::Existing).await {
                Ok(file) => file,
                Err(_) => durable_file(&runtime, "log").await,
            };
            put(&file, 0, byte, Persist::Dsync).await.unwrap();
        })
    };
    write(1);
    let old = machine.snapshot();
    write(2);
    assert!(machine.corrupt("data/log", 10, 3));
    assert!(!machine.corrupt("data/log", 64 * 1024, 1));
    let spoiled = machine.file_bytes("data/log").unwrap();
    assert_eq!(spoiled[9..14], [2, 2 ^ 0xa5, 2 ^ 0xa5, 2 ^ 0xa5, 2]);
    machine.crash();
    machine.restore(&old);
    assert_eq!(machine.files(), ["data/log"]);
    assert_eq!(
        machine.durable_bytes("data/log").unwrap()[..PAGE],
        [1; PAGE]
    );
}

#[test]
fn a_killed_process_gives_back_what_it_had_open() {
    let faults = DiskFaults {
        capacity: Some(100_000),
        ..DiskFaults::default()
    };
    let (simulation, machine) = world(1, faults);
    machine.start(|runtime| async move {
        let disk = data(&runtime);
        let _file = disk.open("a", CREATE).await.unwrap();
        disk.remove("a").await.unwrap();
        assert_eq!(disk.space().await.unwrap().free_bytes, 100_000 - 64 * 1024);
        runtime.sleep(Duration::from_secs(1_000)).await;
    });
    simulation.run_for(Duration::from_secs(1));
    machine.kill();
    machine.run(|runtime| async move {
        assert_eq!(data(&runtime).space().await.unwrap().free_bytes, 100_000);
    });
}

#[test]
fn a_file_without_room_leaves_no_name() {
    let faults = DiskFaults {
        capacity: Some(4096),
        ..DiskFaults::default()
    };
    let (_simulation, machine) = world(1, faults);
    machine.run(|runtime| async move {
        let full = data(&runtime).open("a", CREATE).await.map(drop);
        assert_eq!(full.map_err(|error| error.cause), Err(DiskCause::NoSpace));
    });
    assert!(machine.files().is_empty());
}

#[test]
fn a_reused_name_never_costs_the_old_file_its_last_one() {
    for seed in 0..60 {
        let (_simulation, machine) = world(seed, DiskFaults::default());
        machine.run(|runtime| async move {
            let file = durable_file(&runtime, "a").await;
            put(&file, 0, 7, Persist::Dsync).await.unwrap();
            let disk = data(&runtime);
            disk.rename("a", "b").await.unwrap();
            disk.open("a", CREATE).await.unwrap();
        });
        machine.crash();
        let old = |path: &String| {
            machine
                .file_bytes(path)
                .is_some_and(|it| it.first() == Some(&7))
        };
        assert!(machine.files().iter().any(old), "seed {seed}");
    }
}
