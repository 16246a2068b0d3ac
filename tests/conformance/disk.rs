//! Files of one directory tree.

use armilla::runtime::Runtime;
use armilla::runtime::buffer::PageBuffer;
use armilla::runtime::disk::{Disk, DiskCause, Open, Persist};
use futures_lite::future::poll_once;
use std::pin::pin;

const PAGE: usize = 4096;

fn pages(count: usize, seed: u8) -> PageBuffer {
    let mut buffer = PageBuffer::zeroed(count * PAGE);
    for (i, byte) in buffer.iter_mut().enumerate() {
        *byte = (i / 7) as u8 ^ seed;
    }
    buffer
}

fn create(pages: usize) -> Open {
    Open::Create {
        len: (pages * PAGE) as u64,
    }
}

/// What is written is read back, by each way of writing, and also by a later open.
pub async fn round_trip(_: &Runtime, disk: &Disk) {
    disk.create_dir("log/deep").await.expect("a new directory");
    disk.create_dir("log/deep")
        .await
        .expect("an old one is fine");
    let file = disk.open("log/one", create(8)).await.expect("a new file");
    assert_eq!(file.len(), 8 * PAGE as u64);
    let ways = [Persist::Later, Persist::WriteThenSync, Persist::Dsync];
    for (i, persist) in ways.into_iter().enumerate() {
        let offset = (2 * i * PAGE) as u64;
        let (buffer, result) = file
            .write_at(offset, pages(2, i as u8), 2 * PAGE, persist)
            .await;
        result.expect("written");
        assert!(
            buffer[..] == pages(2, i as u8)[..],
            "the buffer comes back as it was"
        );
    }
    file.sync().await.expect("synced");
    disk.sync_dir("log").await.expect("synced");
    drop(file);
    let file = disk
        .open("log/one", Open::Existing)
        .await
        .expect("it is there");
    assert_eq!(file.len(), 8 * PAGE as u64);
    for i in 0..3 {
        let read = file
            .read_at((2 * i * PAGE) as u64, 2 * PAGE)
            .await
            .expect("read");
        assert!(read[..] == pages(2, i as u8)[..]);
    }
    let rest = file
        .read_bulk_at(6 * PAGE as u64, 2 * PAGE)
        .await
        .expect("read");
    assert!(
        rest.iter().all(|&b| b == 0),
        "preallocated bytes read as zeroes"
    );
    let space = disk.space().await.expect("measured");
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
}

pub async fn errors_name_the_cause(_: &Runtime, disk: &Disk) {
    let Err(missing) = disk.open("nothing", Open::Existing).await else {
        panic!("opened what is not there")
    };
    assert_eq!(
        (missing.cause, missing.name.as_str()),
        (DiskCause::NotFound, "nothing")
    );
    let file = disk.open("one", create(2)).await.expect("a new file");
    let Err(there) = disk.open("one", create(2)).await else {
        panic!("made what is there")
    };
    assert_eq!(there.cause, DiskCause::Exists);
    for (offset, len) in [(PAGE, 2 * PAGE), (2 * PAGE, PAGE), (9 * PAGE, PAGE)] {
        let read = file.read_at(offset as u64, len).await;
        assert_eq!(read.err().map(|e| e.cause), Some(DiskCause::PastEnd));
    }
    let read = disk.read_small("nothing").await;
    assert_eq!(read.err().map(|e| e.cause), Some(DiskCause::NotFound));
    for done in [
        disk.remove("nothing").await,
        disk.rename("nothing", "x").await,
    ] {
        assert_eq!(done.err().map(|e| e.cause), Some(DiskCause::NotFound));
    }
    let listed = disk.list("nothing").await;
    assert_eq!(listed.err().map(|e| e.cause), Some(DiskCause::NotFound));
}

pub async fn names(_: &Runtime, disk: &Disk) {
    disk.create_dir("log").await.expect("made");
    for name in ["log/b", "log/a", "log/c"] {
        disk.open(name, create(1)).await.expect("made");
    }
    assert_eq!(disk.list("log").await.expect("listed"), ["a", "b", "c"]);
    disk.remove("log/b").await.expect("removed");
    disk.rename("log/a", "log/c").await.expect("replaced");
    disk.rename("log/c", "d").await.expect("moved");
    disk.sync_dir("log").await.expect("synced");
    disk.sync_dir("").await.expect("synced");
    assert!(disk.list("log").await.expect("listed").is_empty());
    assert_eq!(disk.list("").await.expect("listed"), ["d", "log"]);
}

pub async fn small_files(_: &Runtime, disk: &Disk) {
    for len in [0, 1, 4095, 200_000, 10] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
        disk.replace_small("node.toml", &bytes)
            .await
            .expect("replaced");
        assert!(disk.read_small("node.toml").await.expect("read") == bytes);
    }
    assert_eq!(disk.list("").await.expect("listed"), ["node.toml"]);
}

pub async fn lock_is_exclusive(_: &Runtime, disk: &Disk) {
    let held = disk.lock("LOCK").await.expect("free");
    let second = disk.lock("LOCK").await;
    assert_eq!(second.err().map(|e| e.cause), Some(DiskCause::Locked));
    drop(held);
    disk.lock("LOCK").await.expect("free again");
}

/// More than one request to the kernel carries.
pub async fn large_writes(_: &Runtime, disk: &Disk) {
    const PAGES: usize = 700;
    for (name, persist) in [
        ("a", Persist::Later),
        ("b", Persist::WriteThenSync),
        ("c", Persist::Dsync),
    ] {
        let file = disk.open(name, create(PAGES)).await.expect("made");
        let (_, result) = file
            .write_at(0, pages(PAGES, 3), PAGES * PAGE, persist)
            .await;
        result.expect("written");
        let read = file.read_at(0, PAGES * PAGE).await.expect("read");
        assert!(read[..] == pages(PAGES, 3)[..]);
    }
}

/// A future may be dropped at any moment: others go on, and the file closes in the end.
pub async fn dropped_futures(runtime: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(4)).await.expect("made");
    file.write_at(0, pages(4, 1), 4 * PAGE, Persist::Later)
        .await
        .1
        .expect("written");
    for round in 0..50 {
        {
            let mut read = pin!(file.read_at(0, 4 * PAGE));
            let _ = poll_once(&mut read).await;
            let mut sync = pin!(file.sync());
            let _ = poll_once(&mut sync).await;
        }
        if round % 7 == 0 {
            runtime.yield_now().await;
        }
        let read = file.read_at(PAGE as u64, PAGE).await.expect("read");
        assert!(read[..] == pages(4, 1)[PAGE..2 * PAGE]);
    }
}

/// The entry of a write lies in the ring when its future was polled once; it is carried out though nobody waits.
pub async fn a_write_is_queued_at_its_first_poll(runtime: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(1)).await.expect("made");
    {
        let mut write = pin!(file.write_at(0, pages(1, 9), PAGE, Persist::Later));
        assert!(poll_once(&mut write).await.is_none());
    }
    runtime.sleep(std::time::Duration::from_millis(50)).await;
    let read = file.read_at(0, PAGE).await.expect("read");
    assert!(read[..] == pages(1, 9)[..]);
}
