//! The state's part in scrub: what there is to be looked at, and whether it still is.

use super::State;
use crate::engine::damage::BadFile;
use crate::engine::manifest::Sealed;
use crate::runtime::disk::File;

impl State {
    /// Bytes a second that scrub reads by itself; 0: none.
    pub fn scrub_rate(&self) -> u64 {
        self.options.scrub_bytes_per_second
    }

    pub fn shards(&self) -> u16 {
        self.options.shards
    }

    /// All segments that hold a group, each up to where nothing is written any more.
    pub fn written_segments(&self) -> Vec<Sealed> {
        let all = self.segments.iter().chain(self.cold.segments());
        let end = |number: u32| self.ends.get(&number).or(self.sealed.get(&number));
        all.filter_map(|segment| end(segment.number).copied())
            .collect()
    }

    /// `None`: it was given back.
    pub fn segment_file(&self, segment: u32) -> Option<File> {
        self.files.get(&segment).cloned()
    }

    /// Whether a file is a part of the store now.
    pub fn is_named(&self, file: BadFile) -> bool {
        match file {
            BadFile::Table(number) => self.runs.table(number).is_some(),
            BadFile::Segment(number) => self.files.contains_key(&number),
        }
    }

    /// A group that a start would replay cannot be read: all that it holds is in memory now, and is to be in a table
    /// before the next start.
    pub fn save_from_replay(&mut self, segment: u32) {
        let from = self.replay_segment;
        let log = self.segments.iter().map(|one| one.number);
        let replayed = log.skip_while(|&number| from.is_some_and(|from| number != from));
        if replayed.into_iter().any(|number| number == segment) {
            self.due.flush |= self.memtable.keys() > 0;
        }
    }
}
