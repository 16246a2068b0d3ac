//! The manifest: which segments are the log, where earlier lives were cut, which arcs lost a group.
//!
//! A generation is one file: a first block with the whole state, then one block for each edit. Blocks are whole pages,
//! written once, each naming the one before it by its checksum. A new generation is written at every start and when a
//! file is full: under another name, synced, then renamed, then the directory is synced. So the file with the highest
//! number is always complete but for a torn last edit, which nobody had relied on yet. The generation before it is
//! kept for people; it is never fallen back to by itself, because it does not know the cuts and segments that came
//! later.

use super::log::group::Arcs;
use super::log::segment::Segment;
use super::manifest_codec::{self as codec, Block, Edit};
use super::manifest_format::MANIFEST_FORMAT;
use super::outcome::OpenError;
use crate::base::limits::{LOG_NUMBER_MAX, MANIFEST_EDIT_BYTES, PAGE_BYTES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{Disk, DiskCause, DiskError, File, Open, Persist};

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

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Drawn once for the log of the shard.
    pub identity: u64,
    pub shard: u16,
    pub shards: u16,
    /// In the order of replay.
    pub segments: Vec<Segment>,
    /// At most one a segment, in their order.
    pub cuts: Vec<Cut>,
    pub damaged: Arcs,
    /// The number of the first group of the first segment.
    pub first_group: u64,
    /// No segment number up to this one is used again.
    pub highest_segment: Option<u32>,
}

/// From the rename on, the next start may read the new generation: going on with the old one would hide its edits.
/// So no error here is one that passes, not even a full disk.
fn lasting(error: DiskError) -> DiskError {
    let cause = match error.cause {
        DiskCause::NoSpace => DiskCause::Os(libc::ENOSPC),
        other => other,
    };
    DiskError { cause, ..error }
}

impl State {
    /// No group of the life that wrote this manifest has a smaller number.
    pub fn first_number_of_last_life(&self) -> u64 {
        self.cuts
            .last()
            .map_or(self.first_group, |cut| cut.next_number)
    }

    /// Of a log without a group.
    pub fn new(identity: u64, shard: u16, shards: u16) -> State {
        State {
            identity,
            shard,
            shards,
            segments: Vec::new(),
            cuts: Vec::new(),
            damaged: Arcs::default(),
            first_group: 1,
            highest_segment: None,
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
        }
    }

    /// The edits that make this state from nothing.
    pub fn edits(&self) -> Vec<Edit> {
        let segments = self.segments.iter().map(|segment| Edit::Segment(*segment));
        let cuts = self.cuts.iter().map(|cut| Edit::Cut(*cut));
        let highest = self.highest_segment.map(Edit::HighestSegment);
        let damaged = (self.damaged != Arcs::default()).then_some(Edit::Damaged(self.damaged));
        let first = [Edit::FirstGroup(self.first_group)];
        segments
            .chain(cuts)
            .chain(highest)
            .chain(damaged)
            .chain(first)
            .collect()
    }

    /// What nobody writes, right as the checksums may be.
    fn flaw(&self) -> Option<&'static str> {
        let mut numbers: Vec<u32> = self.segments.iter().map(|one| one.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("it names a segment twice");
        }
        let whole = |bytes: u64| bytes.is_multiple_of(PAGE_BYTES as u64);
        let segments = self.segments.iter().all(|one| whole(one.bytes));
        if !segments || !self.cuts.iter().all(|cut| whole(cut.offset)) {
            return Some("it names places that are no whole pages");
        }
        let mut groups = self.cuts.iter().map(|cut| cut.next_number);
        if groups.any(|number| number > LOG_NUMBER_MAX) || self.first_group > LOG_NUMBER_MAX {
            return Some("its group numbers are beyond counting");
        }
        None
    }

    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// No single edit is larger.
const EDIT_BYTES_MAX: u64 = PAGE_BYTES as u64;

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
}

fn name(shard: u16, generation: u64) -> String {
    format!("shard-{shard:03}.manifest-{generation}")
}

fn parse_name(file: &str, shard: u16) -> Option<u64> {
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

    /// Removes all generations but this one and the one before it.
    pub async fn remove_older(&self) -> Result<(), DiskError> {
        let prefix = format!("shard-{:03}.manifest-", self.state.shard);
        for file in self.disk.list("").await? {
            let old = parse_name(&file, self.state.shard)
                .is_some_and(|generation| generation + 1 < self.generation);
            let leftover = file.starts_with(&prefix) && file.ends_with(".tmp");
            if old || leftover {
                self.disk.remove(&file).await?;
            }
        }
        Ok(())
    }

    /// Whether the file has no room for another edit.
    pub fn is_full(&self) -> bool {
        self.offset + EDIT_BYTES_MAX > self.file.len()
    }

    /// Goes on in a new generation. After an error this one is as good as before.
    pub async fn rotate(&mut self) -> Result<(), DiskError> {
        let next = Manifest::create(&self.disk, self.generation + 1, self.state.clone()).await?;
        *self = next;
        self.remove_older().await
    }

    /// Makes an edit durable. After an error the state is unknown to anybody but the next start.
    pub async fn append(&mut self, edit: Edit) -> Result<(), DiskError> {
        let mut state = self.state.clone();
        state.apply(&edit);
        let block = codec::encode(&Block {
            generation: self.generation,
            sequence: self.sequence,
            chain: self.chain,
            identity: state.identity,
            shard: state.shard,
            shards: state.shards,
            edits: vec![edit],
        });
        let len = block.bytes.len();
        assert!(len.is_multiple_of(PAGE_BYTES));
        assert!(self.offset + len as u64 <= self.file.len());
        let mut buffer = PageBuffer::zeroed(len);
        buffer[..len].copy_from_slice(&block.bytes);
        let (_, written) = self
            .file
            .write_at(self.offset, buffer, len, Persist::WriteThenSync)
            .await;
        written?;
        self.offset += len as u64;
        self.sequence += 1;
        self.chain = block.crc;
        self.state = state;
        Ok(())
    }
}
