//! Snapshots: an image of a shard as it is at one moment, in a directory beside its files. What is never written again
//! is linked there, what still is is copied up to the last group that is durable, and a manifest of its own names both.
//!
//! A start on the image finds what a start after a power cut at that moment would have found: every write that was
//! acked before. The manifest is locked while files are linked, so that none is given back meanwhile; commits go on.
//! The running shard never writes to what it has linked: a segment that it has left, and a table, are never changed,
//! and what is removed here keeps its other name.

use super::Engine;
use super::log::segment::{self, Segment};
use super::manifest::Manifest;
use super::shell::Shell;
use super::table;
use crate::base::limits::{BULK_READ_BYTES_MAX, SNAPSHOTS_LEFT_MAX};
use crate::base::planted::planted;
use crate::runtime::Queue;
use crate::runtime::disk::{Disk, DiskCause, DiskError, File, Open, Persist};

/// Under the data directory: a directory a snapshot, until whoever asked for it takes it away.
pub const DIRECTORY: &str = "snapshot";
/// Of the manifest of an image; there is none before it.
const GENERATION: u64 = 1;

/// How far the last snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Of its directory; empty if there was none in this life.
    pub name: String,
    pub running: bool,
    /// Why it failed.
    pub error: Option<String>,
}

impl Shell {
    async fn make(&self, name: &str) -> Result<(), String> {
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned.to_string());
        }
        let left = match self.disk().list(DIRECTORY).await {
            Ok(names) => names.iter().filter(|other| *other != name).count(),
            Err(error) if error.cause == DiskCause::NotFound => 0,
            Err(error) => return Err(error.to_string()),
        };
        if left >= SNAPSHOTS_LEFT_MAX {
            return Err(format!(
                "{left} snapshots stand in {DIRECTORY}/ under the data directory, and nobody has taken them away; \
                 remove what interrupted commands have left there"
            ));
        }
        let made = self.image(&format!("{DIRECTORY}/{name}")).await;
        made.map_err(|error| error.to_string())
    }

    async fn image(&self, directory: &str) -> Result<(), DiskError> {
        let disk = self.disk();
        let to = disk.under(directory);
        for below in [segment::DIRECTORY, table::DIRECTORY] {
            disk.create_dir(&format!("{directory}/{below}")).await?;
        }
        let manifest = self.manifest.lock().await;
        let image = self.state.borrow().image(manifest.state());
        let segments = image.closed.iter().map(|number| segment::name(*number));
        let tables = image.state.tables.iter().map(|row| table::name(row.number));
        for name in segments.chain(tables) {
            disk.link(&name, &format!("{directory}/{name}")).await?;
        }
        drop(manifest);
        for (segment, file, end) in &image.open {
            self.copy_segment(&to, segment, file, *end).await?;
        }
        to.sync_dir(segment::DIRECTORY).await?;
        to.sync_dir(table::DIRECTORY).await?;
        Manifest::create(&to, GENERATION, image.state).await?;
        Ok(())
    }

    /// As long as the original, with nothing behind `end`.
    async fn copy_segment(
        &self,
        to: &Disk,
        segment: &Segment,
        file: &File,
        end: u64,
    ) -> Result<(), DiskError> {
        let len = segment.bytes;
        let name = segment::name(segment.number);
        let copy = to.open(&name, Open::Create { len }).await?;
        let end = if planted!(SnapshotWithoutTail) {
            0
        } else {
            end
        };
        let mut offset = 0;
        while offset < end {
            let len = (end - offset).min(BULK_READ_BYTES_MAX as u64) as usize;
            let piece = file.read_bulk_at(offset, len).await?;
            copy.write_at(offset, piece, len, Persist::Later).await.1?;
            offset += len as u64;
        }
        copy.sync().await
    }
}

impl Engine {
    /// Begins a snapshot in a directory of this name; one at a time. `snapshotted` tells when it is done: until then,
    /// and if it failed, what is there is rubbish.
    pub fn snapshot(&self, name: &str) {
        let shell = self.shell.clone();
        if shell.snapshot.borrow().running {
            return;
        }
        *shell.snapshot.borrow_mut() = Snapshot {
            name: name.to_owned(),
            running: true,
            error: None,
        };
        let name = name.to_owned();
        let task = async move {
            let made = shell.make(&name).await;
            let mut snapshot = shell.snapshot.borrow_mut();
            snapshot.running = false;
            snapshot.error = made.err();
        };
        self.shell.runtime.spawn(Queue::Background, task);
    }

    pub fn snapshotted(&self) -> Snapshot {
        self.shell.snapshot.borrow().clone()
    }
}
