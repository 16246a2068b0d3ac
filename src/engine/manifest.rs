//! The manifest: which segments and tables there are, where replay begins, where earlier lives were cut, which arcs
//! lost a group.
//!
//! A generation is one file: a first block with the whole state, then one block for each edit. Blocks are whole pages,
//! written once, each naming the one before it by its checksum. A new generation is written at every start and when a
//! file is full: under another name, synced, then renamed, then the directory is synced. So the file with the highest
//! number is always complete but for a torn last edit, which nobody had relied on yet. The generation before it is
//! kept for people; it is never fallen back to by itself, because it does not know the cuts and segments that came
//! later.

use super::log::group::Arcs;
use super::log::segment::Segment;
use super::manifest_codec::{self as codec, Block, Edit, Encoded};
use super::manifest_format::MANIFEST_FORMAT;
use super::outcome::OpenError;
use crate::base::limits::{LOG_NUMBER_MAX, MANIFEST_EDIT_BYTES, PAGE_BYTES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{Disk, DiskCause, DiskError, File, Open, Persist};
use std::cell::Cell;
use std::rc::Rc;

/// Where replay of a segment ends for ever, and what is known of the last group before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub segment: u32,
    pub offset: u64,
    /// The last group before the cut, of whatever segment; the next group of the log names it as its predecessor.
    pub last: super::log::group::Link,
    /// The number of the first group behind the cut, in a later segment.
    pub next_number: u64,
}

/// Where replay begins: every record before it is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayFrom {
    pub segment: u32,
    pub offset: u64,
    /// The last group before it.
    pub last: super::log::group::Link,
    /// The number of the first group behind it.
    pub next_number: u64,
    /// No record behind it has a smaller sequence.
    pub next_sequence: u64,
}

impl ReplayFrom {
    /// The end of its segment's groups if none comes behind it.
    pub fn sealed(&self) -> Sealed {
        Sealed {
            segment: self.segment,
            end: self.offset,
            last: self.last.number,
        }
    }
}

/// Where the groups of a segment end that no replay reads, since it lies before the replay position or is cold: what is
/// missing before that is damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub segment: u32,
    pub end: u64,
    /// The number of its last group.
    pub last: u64,
}

/// A table, and the run it is a part of. Of two runs the one with the higher number holds the newer entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    pub number: u32,
    pub run: u64,
    /// Of its file.
    pub bytes: u64,
    /// Checksum of its footer, which holds those of the rest.
    pub footer_crc: u32,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Drawn once for the log of the shard.
    pub identity: u64,
    pub shard: u16,
    pub shards: u16,
    /// In the order of replay.
    pub segments: Vec<Segment>,
    /// Copies that collection made of values, in the order in which the segments were begun. Nothing is replayed from
    /// them: an entry that points here stands in a table, or in a record of the log.
    pub cold: Vec<Segment>,
    /// At most one a segment, in their order.
    pub cuts: Vec<Cut>,
    pub damaged: Arcs,
    /// The number of the first group of the first segment.
    pub first_group: u64,
    /// No segment number up to this one is used again.
    pub highest_segment: Option<u32>,
    /// `None`: from the first segment.
    pub replay: Option<ReplayFrom>,
    /// At most one a segment.
    pub sealed: Vec<Sealed>,
    pub tables: Vec<TableRow>,
    /// No table number up to this one is used again.
    pub highest_table: Option<u32>,
}

/// From the rename on, the next start may read the new generation: going on with the old one would hide its edits.
/// So no error here is one that passes, not even a full disk.
fn lasting(error: DiskError) -> DiskError {
    let cause = match error.cause {
        DiskCause::NoSpace => DiskCause::Os(libc::ENOSPC),
        DiskCause::TooManyOpen => DiskCause::Os(libc::EMFILE),
        other => other,
    };
    DiskError { cause, ..error }
}

impl State {
    /// Groups with smaller numbers are of an earlier life, or all their records are in tables.
    pub fn first_number_needed(&self) -> u64 {
        let life = self
            .cuts
            .last()
            .map_or(self.first_group, |cut| cut.next_number);
        life.max(self.replay.map_or(0, |from| from.next_number))
    }

    /// The index of the first segment that is replayed.
    pub fn first_replayed(&self) -> Option<usize> {
        let Some(from) = &self.replay else {
            return Some(0);
        };
        let named = |segment: &Segment| segment.number == from.segment;
        self.segments.iter().position(named)
    }

    /// Of a log without a group.
    pub fn new(identity: u64, shard: u16, shards: u16) -> State {
        State {
            identity,
            shard,
            shards,
            segments: Vec::new(),
            cold: Vec::new(),
            cuts: Vec::new(),
            damaged: Arcs::default(),
            first_group: 1,
            highest_segment: None,
            replay: None,
            sealed: Vec::new(),
            tables: Vec::new(),
            highest_table: None,
        }
    }

    pub fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Segment(segment) => {
                self.segments.push(*segment);
                self.highest_segment = self.highest_segment.max(Some(segment.number));
            }
            Edit::Cut(cut) => {
                self.cuts.retain(|other| other.segment != cut.segment);
                self.cuts.push(*cut);
            }
            Edit::Damaged(arcs) => {
                for (mine, more) in self.damaged.iter_mut().zip(arcs) {
                    *mine |= more;
                }
            }
            Edit::FirstGroup(number) => self.first_group = *number,
            Edit::HighestSegment(number) => {
                self.highest_segment = self.highest_segment.max(Some(*number));
            }
            Edit::RemoveSegment(number) => {
                self.segments.retain(|segment| segment.number != *number);
                self.cold.retain(|segment| segment.number != *number);
                self.cuts.retain(|cut| cut.segment != *number);
                self.sealed.retain(|sealed| sealed.segment != *number);
            }
            Edit::ColdSegment(segment) => {
                self.cold.push(*segment);
                self.highest_segment = self.highest_segment.max(Some(segment.number));
            }
            Edit::Sealed(sealed) => {
                self.sealed.retain(|other| other.segment != sealed.segment);
                self.sealed.push(*sealed);
            }
            Edit::Replay(from) => {
                self.replay = Some(*from);
                let skipped = self.first_replayed().unwrap_or(0);
                let skipped: Vec<u32> = self.segments[..skipped].iter().map(|s| s.number).collect();
                self.cuts.retain(|cut| !skipped.contains(&cut.segment));
            }
            Edit::Table(table) => {
                self.tables.push(*table);
                self.highest_table = self.highest_table.max(Some(table.number));
            }
            Edit::RemoveTable(number) => self.tables.retain(|table| table.number != *number),
            Edit::HighestTable(number) => {
                self.highest_table = self.highest_table.max(Some(*number));
            }
        }
    }

    /// The edits that make this state from nothing.
    pub fn edits(&self) -> Vec<Edit> {
        let segments = self.segments.iter().map(|segment| Edit::Segment(*segment));
        let cold = self.cold.iter().map(|one| Edit::ColdSegment(*one));
        let cuts = self.cuts.iter().map(|cut| Edit::Cut(*cut));
        let highest = self.highest_segment.map(Edit::HighestSegment);
        let damaged = (self.damaged != Arcs::default()).then_some(Edit::Damaged(self.damaged));
        let first = [Edit::FirstGroup(self.first_group)];
        let replay = self.replay.map(Edit::Replay);
        let sealed = self.sealed.iter().map(|sealed| Edit::Sealed(*sealed));
        let tables = self.tables.iter().map(|table| Edit::Table(*table));
        let highest_table = self.highest_table.map(Edit::HighestTable);
        segments
            .chain(cold)
            .chain(cuts)
            .chain(highest)
            .chain(damaged)
            .chain(first)
            .chain(replay)
            .chain(sealed)
            .chain(tables)
            .chain(highest_table)
            .collect()
    }

    /// What nobody writes, right as the checksums may be.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        let mut numbers: Vec<u32> = self.all_segments().map(|one| one.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("it names a segment twice");
        }
        let whole = |bytes: u64| bytes.is_multiple_of(PAGE_BYTES as u64);
        let segments = self.all_segments().all(|one| whole(one.bytes));
        if !segments || !self.cuts.iter().all(|cut| whole(cut.offset)) {
            return Some("it names places that are no whole pages");
        }
        let mut groups = self.cuts.iter().map(|cut| cut.next_number);
        if groups.any(|number| number > LOG_NUMBER_MAX) || self.first_group > LOG_NUMBER_MAX {
            return Some("its group numbers are beyond counting");
        }
        if let Some(from) = &self.replay {
            let numbers = [from.last.number, from.next_number, from.next_sequence];
            let counted = numbers.iter().all(|&number| number <= LOG_NUMBER_MAX);
            if !counted || !whole(from.offset) || from.next_number <= from.last.number {
                return Some("its replay position is nowhere");
            }
        }
        self.flaw_of_places()
    }

    fn flaw_of_places(&self) -> Option<&'static str> {
        for sealed in &self.sealed {
            let named = self.all_segments().find(|one| one.number == sealed.segment);
            let whole = sealed.end.is_multiple_of(PAGE_BYTES as u64);
            if !whole || named.is_none_or(|one| sealed.end > one.bytes) {
                return Some("it seals a segment where it does not end");
            }
        }
        let mut numbers: Vec<u32> = self.tables.iter().map(|one| one.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("it names a table twice");
        }
        let counted = self.tables.iter().all(|one| one.run <= LOG_NUMBER_MAX);
        (!counted).then_some("its runs are beyond counting")
    }

    /// Of the log, then the cold ones.
    pub fn all_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain(&self.cold)
    }

    pub fn segment_bytes(&self) -> u64 {
        self.all_segments().map(|segment| segment.bytes).sum()
    }
}

/// The open manifest of a shard; one task has it.
pub struct Manifest {
    disk: Disk,
    file: File,
    generation: u64,
    /// Where the next block goes.
    offset: u64,
    sequence: u64,
    chain: u32,
    state: State,
    /// An error after which nobody knows what the next start will read: nothing is appended any more.
    failed: Option<DiskError>,
    /// Bytes written of this generation, and of those before it in this life.
    written: Rc<Cell<u64>>,
}

fn name(shard: u16, generation: u64) -> String {
    format!("shard-{shard:03}.manifest-{generation}")
}

pub(super) fn parse_name(file: &str, shard: u16) -> Option<u64> {
    let digits = file.strip_prefix(&format!("shard-{shard:03}.manifest-"))?;
    let generation = digits.parse().ok()?;
    let counted = generation <= LOG_NUMBER_MAX;
    (counted && file == name(shard, generation)).then_some(generation)
}

/// Reads the newest generation. `None`: this shard has none yet.
pub async fn load(disk: &Disk, shard: u16) -> Result<Option<(u64, State)>, OpenError> {
    let names = disk.list("").await?;
    let newest = names
        .iter()
        .filter_map(|file| parse_name(file, shard))
        .max();
    let Some(generation) = newest else {
        return Ok(None);
    };
    let name = name(shard, generation);
    let file = disk.open(&name, Open::Existing).await?;
    let damaged = |what| OpenError::Damaged {
        name: name.clone(),
        what,
    };
    if !file.len().is_multiple_of(PAGE_BYTES as u64) {
        return Err(damaged("it does not end with a whole page"));
    }
    // What the page cache or the device's cache alone holds could be read now and be gone after the next power cut.
    file.sync().await?;
    disk.sync_dir("").await?;
    let mut bytes = Vec::with_capacity(file.len() as usize);
    while (bytes.len() as u64) < file.len() {
        let len = (file.len() as usize - bytes.len()).min(MANIFEST_EDIT_BYTES);
        bytes.extend_from_slice(&file.read_bulk_at(bytes.len() as u64, len).await?[..len]);
    }
    match codec::decode_file(&bytes, shard, generation) {
        Ok(state) => match state.flaw() {
            Some(what) => Err(damaged(what)),
            None => Ok(Some((generation, state))),
        },
        Err(codec::FileError::Damaged(what)) => Err(damaged(what)),
        Err(codec::FileError::Newer(found)) => Err(OpenError::NewerFormat {
            name,
            found,
            known: MANIFEST_FORMAT,
        }),
    }
}

/// Removes the generations of a shard before `kept`, and what was begun and never named.
async fn remove_before(disk: &Disk, shard: u16, kept: u64) -> Result<(), DiskError> {
    let prefix = format!("shard-{shard:03}.manifest-");
    for file in disk.list("").await? {
        let old = parse_name(&file, shard).is_some_and(|generation| generation < kept);
        let leftover = file.starts_with(&prefix) && file.ends_with(".tmp");
        if old || leftover {
            disk.remove(&file).await?;
        }
    }
    Ok(())
}

impl Manifest {
    /// Writes a new generation with this state; durable on return.
    pub async fn create(disk: &Disk, generation: u64, state: State) -> Result<Manifest, DiskError> {
        let block = codec::encode(&Block {
            generation,
            sequence: 0,
            chain: 0,
            identity: state.identity,
            shard: state.shard,
            shards: state.shards,
            edits: state.edits(),
        });
        let final_name = name(state.shard, generation);
        let temporary = format!("{final_name}.tmp");
        match disk.remove(&temporary).await {
            Ok(()) => {}
            Err(error) if error.cause == DiskCause::NotFound => {}
            Err(error) => return Err(error),
        }
        let len = (block.bytes.len() + MANIFEST_EDIT_BYTES) as u64;
        let file = disk.open(&temporary, Open::Create { len }).await?;
        let end = block.bytes.len();
        let mut buffer = PageBuffer::zeroed(end);
        buffer[..end].copy_from_slice(&block.bytes);
        file.write_at(0, buffer, end, Persist::Later).await.1?;
        file.sync().await?;
        disk.rename(&temporary, &final_name)
            .await
            .map_err(lasting)?;
        if !planted!(SkippedDirectorySync) {
            disk.sync_dir("").await.map_err(lasting)?;
        }
        mark!(ManifestRewritten);
        Ok(Manifest {
            disk: disk.clone(),
            file,
            generation,
            offset: end as u64,
            sequence: 1,
            chain: block.crc,
            state,
            failed: None,
            written: Rc::new(Cell::new(end as u64)),
        })
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn bytes(&self) -> u64 {
        self.file.len()
    }

    /// How much has been written, for who counts it without the lock.
    pub fn written(&self) -> Rc<Cell<u64>> {
        self.written.clone()
    }

    /// Writes the generation behind `generation`, which is the newest there is; durable on return. A full disk does not
    /// keep a shard from starting, or from giving segments back, as long as there is an older one to be removed for it.
    pub async fn create_next(
        disk: &Disk,
        generation: u64,
        state: &State,
    ) -> Result<Manifest, DiskError> {
        match Manifest::create(disk, generation + 1, state.clone()).await {
            Err(error) if error.cause == DiskCause::NoSpace => {
                remove_before(disk, state.shard, generation).await?;
                Manifest::create(disk, generation + 1, state.clone()).await
            }
            created => created,
        }
    }

    /// Removes all generations but this one and the one before it.
    pub async fn remove_older(&self) -> Result<(), DiskError> {
        let kept = self.generation.saturating_sub(1);
        remove_before(&self.disk, self.state.shard, kept).await
    }

    /// Goes on in a new generation. After an error this one is as good as before.
    async fn rotate(&mut self) -> Result<(), DiskError> {
        let next = Manifest::create_next(&self.disk, self.generation, &self.state).await?;
        let written = self.written.clone();
        written.set(written.get() + next.written.get());
        *self = Manifest { written, ..next };
        self.remove_older().await.map_err(lasting)
    }

    /// An error: nothing is appended any more, and what the next start will read may name files that this life does not
    /// know to be named.
    pub fn is_sound(&self) -> Result<(), DiskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Makes edits durable, all or none, in a new generation if this one has no room for them. A cause that passes:
    /// nothing was changed. After any other error the state is unknown to anybody but the next start.
    pub async fn append(&mut self, edits: Vec<Edit>) -> Result<(), DiskError> {
        self.is_sound()?;
        let appended = self.append_block(edits).await;
        if let Err(error) = &appended
            && !error.cause.passes()
        {
            self.failed = Some(error.clone());
        }
        appended
    }

    async fn append_block(&mut self, edits: Vec<Edit>) -> Result<(), DiskError> {
        let mut block = self.encode(&edits);
        if self.offset + block.bytes.len() as u64 > self.file.len() {
            self.rotate().await?;
            block = self.encode(&edits);
        }
        let len = block.bytes.len();
        assert!(len.is_multiple_of(PAGE_BYTES));
        assert!(self.offset + len as u64 <= self.file.len());
        let mut buffer = PageBuffer::zeroed(len);
        buffer[..len].copy_from_slice(&block.bytes);
        let (_, written) = self
            .file
            .write_at(self.offset, buffer, len, Persist::WriteThenSync)
            .await;
        written.map_err(lasting)?;
        self.written.set(self.written.get() + len as u64);
        self.offset += len as u64;
        self.sequence += 1;
        self.chain = block.crc;
        edits.iter().for_each(|edit| self.state.apply(edit));
        Ok(())
    }

    fn encode(&self, edits: &[Edit]) -> Encoded {
        codec::encode(&Block {
            generation: self.generation,
            sequence: self.sequence,
            chain: self.chain,
            identity: self.state.identity,
            shard: self.state.shard,
            shards: self.state.shards,
            edits: edits.to_vec(),
        })
    }
}
