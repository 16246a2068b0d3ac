//! Files of one directory tree.

use armilla::runtime::Runtime;
use armilla::runtime::buffer::PageBuffer;
use armilla::runtime::disk::{Disk, DiskCause, DiskError, Open, Persist};
use futures_lite::FutureExt;
use futures_lite::future::poll_once;
use std::panic::AssertUnwindSafe;
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

/// A second name is the same file, and stays when the first one goes.
pub async fn links(_: &Runtime, disk: &Disk) {
    disk.create_dir("log").await.expect("a directory");
    disk.create_dir("copy/log").await.expect("a directory");
    let file = disk.open("log/a", create(1)).await.expect("a new file");
    let written = file.write_at(0, pages(1, 3), PAGE, Persist::Dsync).await;
    written.1.expect("written");
    disk.link("log/a", "copy/log/a").await.expect("linked");
    let again = disk.link("log/a", "copy/log/a").await;
    assert_eq!(again.expect_err("it is there").cause, DiskCause::Exists);
    let nothing = disk.link("log/b", "copy/log/b").await;
    assert_eq!(nothing.expect_err("no file").cause, DiskCause::NotFound);
    disk.sync_dir("copy/log").await.expect("synced");
    disk.remove("log/a").await.expect("removed");
    let copy = disk.under("copy");
    assert_eq!(copy.list("log").await.expect("a directory"), ["a"]);
    let file = copy.open("log/a", Open::Existing).await.expect("there");
    let read = file.read_at(0, PAGE).await.expect("read");
    assert!(read[..] == pages(1, 3)[..]);
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

/// An existing name is an error, and its file stays as it is.
pub async fn create_leaves_what_is_there(_: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(2)).await.expect("made");
    let (_, done) = file
        .write_at(0, pages(2, 4), 2 * PAGE, Persist::Dsync)
        .await;
    done.expect("written");
    for len in [0, 1, 5] {
        let again = disk.open("one", create(len)).await;
        assert_eq!(again.err().map(|e| e.cause), Some(DiskCause::Exists));
    }
    disk.create_dir("deep").await.expect("made");
    let again = disk.open("deep", create(1)).await;
    assert_eq!(again.err().map(|e| e.cause), Some(DiskCause::Exists));
    let file = disk.open("one", Open::Existing).await.expect("there");
    assert_eq!(file.len(), 2 * PAGE as u64);
    assert!(file.read_at(0, 2 * PAGE).await.expect("read")[..] == pages(2, 4)[..]);
}

/// A file in the place of a directory is told, not taken for one.
pub async fn names_that_are_no_directory(_: &Runtime, disk: &Disk) {
    const NO_DIRECTORY: Option<DiskCause> = Some(DiskCause::Os(20));
    disk.open("one", create(1)).await.expect("made");
    for name in ["one", "one/deep"] {
        let made = disk.create_dir(name).await.err().map(|e| e.cause);
        assert_eq!(made, Some(DiskCause::Exists), "{name}");
    }
    let cause = |e: DiskError| e.cause;
    assert_eq!(disk.list("one").await.err().map(cause), NO_DIRECTORY);
    assert_eq!(disk.sync_dir("one").await.err().map(cause), NO_DIRECTORY);
    let inside = disk.open("one/x", create(1)).await;
    assert_eq!(inside.err().map(cause), NO_DIRECTORY);
    let nowhere = disk.open("no/x", create(1)).await;
    assert_eq!(nowhere.err().map(cause), Some(DiskCause::NotFound));
    disk.create_dir("deep").await.expect("made");
    let (is_directory, removed) = (Some(DiskCause::Os(21)), disk.remove("deep").await);
    assert_eq!(removed.err().map(cause), is_directory);
    assert_eq!(disk.read_small("deep").await.err().map(cause), is_directory);
}

pub async fn an_open_file_outlives_its_name(_: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(1)).await.expect("made");
    let (_, done) = file.write_at(0, pages(1, 8), PAGE, Persist::Later).await;
    done.expect("written");
    disk.remove("one").await.expect("removed");
    disk.sync_dir("").await.expect("synced");
    disk.open("one", create(1)).await.expect("another");
    assert!(file.read_at(0, PAGE).await.expect("read")[..] == pages(1, 8)[..]);
}

/// The lock file holds the number of the process, whatever was in it.
pub async fn the_lock_names_its_holder(_: &Runtime, disk: &Disk) {
    let old = b"4294967295 and more\n";
    disk.replace_small("LOCK", old).await.expect("replaced");
    let _held = disk.lock("LOCK").await.expect("free");
    let bytes = disk.read_small("LOCK").await.expect("read");
    let text = String::from_utf8(bytes).expect("text");
    let number = text.strip_suffix('\n').expect("one line");
    number.parse::<u32>().expect("a process id");
}

/// What is no whole page, or leaves the root, is the caller's bug.
pub async fn ranges_are_whole_pages(_: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(4)).await.expect("made");
    for (offset, len) in [(0, 0), (1, PAGE), (0, PAGE + 1), (512, 512)] {
        let read = poll_once(panics(file.read_at(offset, len))).await;
        assert_eq!(read, Some(true), "read of {len} at {offset}");
        let write = file.write_at(offset, pages(2, 0), len, Persist::Later);
        assert_eq!(poll_once(panics(write)).await, Some(true), "write");
    }
    let past_the_buffer = file.write_at(0, pages(1, 0), 2 * PAGE, Persist::Later);
    assert_eq!(poll_once(panics(past_the_buffer)).await, Some(true));
    for name in ["../one", "/one", "deep/../one"] {
        assert_eq!(
            poll_once(panics(disk.remove(name))).await,
            Some(true),
            "{name}"
        );
    }
}

/// Whether the first polls of a future panic.
async fn panics<T>(future: impl Future<Output = T>) -> bool {
    AssertUnwindSafe(future).catch_unwind().await.is_err()
}

/// A file grows by what is written behind its end.
pub async fn writes_go_past_the_end(_: &Runtime, disk: &Disk) {
    let file = disk.open("one", create(1)).await.expect("made");
    let ways = [Persist::Later, Persist::WriteThenSync, Persist::Dsync];
    for (i, persist) in ways.into_iter().enumerate() {
        let offset = ((2 * i + 1) * PAGE) as u64;
        let (_, done) = file.write_at(offset, pages(1, 5), PAGE, persist).await;
        done.expect("written");
        assert_eq!(file.len(), offset + PAGE as u64);
    }
    let read = file.read_at(0, 6 * PAGE).await.expect("read");
    assert!(read[5 * PAGE..] == pages(1, 5)[..]);
    assert!(
        read[2 * PAGE..3 * PAGE].iter().all(|&b| b == 0),
        "a gap reads as zeroes"
    );
}
