//! Files of one directory tree.

use armilla::runtime::buffer::PageBuffer;
use armilla::runtime::disk::{Disk, Open, Persist};

const PAGE: usize = 4096;

fn pages(count: usize, seed: u8) -> PageBuffer {
    let mut buffer = PageBuffer::zeroed(count * PAGE);
    for (i, byte) in buffer.iter_mut().enumerate() {
        *byte = (i / 7) as u8 ^ seed;
    }
    buffer
}

/// What is written is read back, by each way of writing, and also by a later open.
pub async fn round_trip(disk: &Disk) {
    disk.create_dir("log").await.expect("a new directory");
    disk.create_dir("log")
        .await
        .expect("an old directory is fine");
    let file = disk
        .open(
            "log/one",
            Open::Create {
                len: 8 * PAGE as u64,
            },
        )
        .await
        .expect("a new file");
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
}
