//! Merges runs in the background, in small steps.

use super::pick::{Size, pick};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::engine::damage::BadFile;
use crate::engine::key::Key;
use crate::engine::lookup::Merged;
use crate::engine::manifest_codec::Edit;
use crate::engine::run_writer::{Cause, RunWriter};
use crate::engine::runs::Run;
use crate::engine::shell::Shell;
use crate::engine::table::{self, TableEntry};
use crate::runtime::disk::DiskError;
use std::collections::BTreeSet;

/// Why a merge came to nothing.
enum Failed {
    /// The run that this table is of stays as it is.
    Unreadable(BadFile),
    Disk(DiskError),
    /// The log closes.
    Closed,
}

impl From<DiskError> for Failed {
    fn from(error: DiskError) -> Failed {
        Failed::Disk(error)
    }
}

impl Shell {
    /// Until the log closes.
    pub(in crate::engine) async fn keep_merging(&self) {
        let mut stuck: BTreeSet<u64> = BTreeSet::new();
        // Of the last merge that the disk had no room for.
        let mut too_large = u64::MAX;
        while self.serves() {
            let runs = self.state.borrow().runs();
            let sizes: Vec<Size> = runs
                .iter()
                .map(|run| Size {
                    bytes: run.bytes(),
                    stuck: stuck.contains(&run.number),
                })
                .collect();
            let room = self.state.borrow().room_to_merge();
            let chosen = pick(&sizes, room.min(too_large - 1));
            self.state.borrow_mut().on_merge_due(chosen.is_some());
            let Some(chosen) = chosen else {
                self.merges.notified().await;
                too_large = u64::MAX;
                continue;
            };
            let count = chosen.len();
            let inputs: Vec<Run> = runs
                .iter()
                .skip(chosen.start)
                .take(count)
                .cloned()
                .collect();
            match self.merge(&inputs).await {
                Ok(()) => mark!(Merged),
                Err(Failed::Unreadable(file)) => {
                    mark!(MergeUnreadable);
                    let bad = inputs.iter().filter(|run| run.has(file));
                    let bad: Vec<u64> = bad.map(|run| run.number).collect();
                    assert!(!bad.is_empty(), "a merge reads its inputs only");
                    let count = bad.len() as u64;
                    self.state.borrow_mut().damage().on_merge_stuck(count);
                    self.damaged.notify();
                    stuck.extend(bad);
                }
                // A smaller one may fit; puts and flushes have the room that there is.
                Err(Failed::Disk(error)) if error.cause.passes() => {
                    mark!(MergeTooLarge);
                    too_large = inputs.iter().map(Run::bytes).sum();
                }
                Err(Failed::Disk(error)) => {
                    self.poison(error);
                }
                Err(Failed::Closed) => {}
            }
        }
    }

    /// `inputs`: neighbours, newest first.
    async fn merge(&self, inputs: &[Run]) -> Result<(), Failed> {
        let mut writer = RunWriter::new(self, Cause::Merge);
        let tables = match self.write_merged(&mut writer, inputs).await {
            Ok(()) => writer.finish().await.map_err(Failed::Disk),
            Err(error) => Err(error),
        };
        let tables = match tables {
            Ok(tables) => tables,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        let gone: Vec<u64> = inputs.iter().map(|run| run.number).collect();
        let number = gone[0];
        let old: Vec<u32> = inputs
            .iter()
            .flat_map(|run| &run.tables)
            .map(|table| table.summary().number)
            .collect();
        let mut manifest = self.manifest.lock().await;
        let mut edits: Vec<Edit> = old
            .iter()
            .map(|&number| Edit::RemoveTable(number))
            .collect();
        if planted!(ManifestNotAtomic) {
            manifest.append(std::mem::take(&mut edits)).await?;
        }
        edits.extend(tables.edits(number));
        if let Err(error) = manifest.append(edits).await {
            if error.cause.passes() {
                writer.abandon().await;
            }
            return Err(error.into());
        }
        {
            let mut state = self.state.borrow_mut();
            state.on_merged(&gone, tables.into_run(number));
            state.counters_mut().merges += 1;
        }
        drop(manifest);
        for number in old {
            // Who reads it has it open. If it cannot be removed, it is rubbish to the next start.
            let _ = self.disk().remove(&table::name(number)).await;
        }
        Ok(())
    }

    async fn merged_next(&self, merged: &mut Merged) -> Result<Option<(Key, TableEntry)>, Failed> {
        merged.next().await.map_err(|bad| {
            let file = bad.spot.file;
            self.note(bad);
            Failed::Unreadable(file)
        })
    }

    async fn write_merged(&self, writer: &mut RunWriter<'_>, inputs: &[Run]) -> Result<(), Failed> {
        let mut merged = match planted!(MergeOldestWins) {
            true => Merged::new(inputs.iter().rev(), None),
            false => Merged::new(inputs.iter(), None),
        };
        while let Some((key, entry)) = self.merged_next(&mut merged).await? {
            writer.add(key.as_ref(), &entry.object, entry.mine).await?;
            if self.runtime.should_yield() {
                self.runtime.yield_now().await;
                if !self.serves() {
                    return Err(Failed::Closed);
                }
            }
        }
        Ok(())
    }
}
