//! Makes tables of what fills memory, so that memory and replay stay bounded.

use super::manifest::ReplayFrom;
use super::manifest_codec::Edit;
use super::memtable::Memtable;
use super::run_writer::{Cause, RunWriter};
use super::shell::Shell;
use crate::base::limits::{DISK_FULL_RETRY_MS, SCAN_BATCH_ENTRIES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::runtime::disk::DiskError;
use crate::runtime::time::timeout;
use std::time::Duration;

impl Shell {
    /// Until the log closes.
    pub(super) async fn keep_flushing(&self) {
        while self.serves() {
            if self.state.borrow().wants_freeze() {
                self.state.borrow_mut().freeze();
                self.work.notify();
            }
            let flushable = self.state.borrow().flushable();
            let Some((memtable, from)) = flushable else {
                self.flushes.notified().await;
                continue;
            };
            match self.flush(&memtable, from).await {
                Ok(()) => {
                    mark!(Flushed);
                    self.merges.notify();
                    self.segments.notify();
                    self.collects.notify();
                }
                Err(error) => {
                    if self.on_background_error(error) {
                        let wait = Duration::from_millis(DISK_FULL_RETRY_MS);
                        timeout(&self.runtime, wait, self.room.notified()).await;
                    }
                }
            }
        }
    }

    /// A full disk passes, which is true; any other error of a write or a sync ends this life of the log.
    pub(super) fn on_background_error(&self, error: DiskError) -> bool {
        let passes = error.cause.passes();
        if passes {
            self.state.borrow_mut().on_disk_full();
        } else {
            self.poison(error);
        }
        passes
    }

    async fn flush(&self, memtable: &Memtable, from: ReplayFrom) -> Result<(), DiskError> {
        let mut writer = RunWriter::new(self, Cause::Flush);
        let tables = match self.write_entries(&mut writer, memtable).await {
            Ok(()) => writer.finish().await,
            Err(error) => Err(error),
        };
        let tables = match tables {
            Ok(tables) => tables,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        let mut manifest = self.manifest.lock().await;
        let run = self.state.borrow().runs().next_number();
        let sealed = self.state.borrow().sealed_before(&from);
        let mut edits: Vec<Edit> = tables.edits(run).collect();
        edits.extend(sealed.iter().map(|one| Edit::Sealed(*one)));
        if planted!(ReplayBeforeTable) {
            manifest.append(vec![Edit::Replay(from)]).await?;
        } else {
            edits.push(Edit::Replay(from));
        }
        let named = manifest.append(edits).await;
        match named {
            Ok(()) => {}
            Err(error) => {
                if error.cause.passes() {
                    writer.abandon().await;
                }
                return Err(error);
            }
        }
        let mut state = self.state.borrow_mut();
        state.on_flushed(tables.into_run(run), from, sealed);
        state.counters_mut().flushes += 1;
        Ok(())
    }

    async fn write_entries(
        &self,
        writer: &mut RunWriter<'_>,
        memtable: &Memtable,
    ) -> Result<(), DiskError> {
        let mut after = None;
        loop {
            let batch = memtable.scan(after.as_ref(), SCAN_BATCH_ENTRIES);
            for (key, entry) in &batch {
                writer.add(key.as_ref(), &entry.object, entry.mine).await?;
                if self.runtime.should_yield() {
                    self.runtime.yield_now().await;
                }
            }
            match batch.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => return Ok(()),
            }
        }
    }
}
