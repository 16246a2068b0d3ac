//! What the files of the shard take of its disk budget, and what that leaves.

use super::State;
use crate::base::limits::{COLLECT_DISK_PERCENT, SEGMENTS_AHEAD};
use crate::base::marks::mark;
use crate::engine::log::segment;

impl State {
    /// Bytes of disk that hold something.
    pub(super) fn used_bytes(&self) -> u64 {
        self.written_bytes() + self.runs.bytes()
    }

    /// Bytes of segments that hold something.
    pub(super) fn written_bytes(&self) -> u64 {
        self.segment_bytes - self.writer.unwritten_bytes() - self.cold.unwritten_bytes()
    }

    /// Bytes of all files.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.segment_bytes + self.runs.bytes() + self.manifest_bytes
    }

    /// The disk budget is nearly used up.
    pub(super) fn is_pressed(&self) -> bool {
        self.used_bytes() > self.disk_share() / 100 * COLLECT_DISK_PERCENT
    }

    /// Bytes of the data directory that this shard may take.
    pub(super) fn disk_share(&self) -> u64 {
        self.options.disk_bytes / u64::from(self.options.shards)
    }

    /// Bytes that a merge may take beside the runs that it merges.
    pub fn room_to_merge(&self) -> u64 {
        self.disk_share().saturating_sub(self.taken_bytes())
    }

    /// The size of the segment to be made ready now, if one is wanted.
    pub fn wanted_segment(&mut self) -> Option<u64> {
        let enough = self.writer.segments_ready() >= SEGMENTS_AHEAD;
        if enough || self.closed || self.poisoned.is_some() {
            return None;
        }
        let bytes = self.new_segment_bytes();
        let fits = self.taken_bytes() + bytes <= self.disk_share();
        if !fits {
            self.on_disk_full();
        }
        fits.then_some(bytes)
    }

    pub(super) fn new_segment_bytes(&self) -> u64 {
        let options = &self.options;
        let least = options.sizes.segment_bytes_min;
        segment::size(self.segment_bytes, options.value_bytes_max, least)
    }

    pub fn on_disk_full(&mut self) {
        mark!(DiskFull);
        self.disk_full = true;
    }
}
