//! The bytes of one file: what reads see, what is on the medium, and the writes in between. Pure.
//!
//! 1. A byte covered by a sync is in `durable` and no later power cut changes it.
//! 2. `unsynced` holds the writes that a cut decides about, oldest first; no part of one is older
//!    than a durable write.

use crate::base::rng::Rng;
use std::rc::Rc;

/// The unit that a device writes whole.
pub(super) const SECTOR: u64 = 512;
const CHUNK: usize = 16 * 1024;

/// Sparse bytes; what was never written is zero. Clones share chunks.
#[derive(Clone, Default)]
struct Bytes {
    chunks: Vec<Option<Rc<[u8; CHUNK]>>>,
}

impl Bytes {
    /// Calls `part(chunk index, range in the chunk, range in the caller's bytes)` for each chunk of
    /// a range.
    fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let at = offset as usize + done;
            let take = (CHUNK - at % CHUNK).min(len - done);
            done += take;
            Some((at / CHUNK, at % CHUNK, done - take, take))
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        for (chunk, from, to, take) in Bytes::parts(offset, out.len()) {
            match self.chunks.get(chunk) {
                Some(Some(bytes)) => out[to..to + take].copy_from_slice(&bytes[from..from + take]),
                Some(None) | None => out[to..to + take].fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (chunk, to, from, take) in Bytes::parts(offset, bytes.len()) {
            if chunk >= self.chunks.len() {
                self.chunks.resize(chunk + 1, None);
            }
            let target = self.chunks[chunk].get_or_insert_with(|| Rc::new([0; CHUNK]));
            Rc::make_mut(target)[to..to + take].copy_from_slice(&bytes[from..from + take]);
        }
    }

    /// All from `len` on reads as zero.
    fn truncate(&mut self, len: u64) {
        let (chunk, rest) = (len as usize / CHUNK, len as usize % CHUNK);
        self.chunks.truncate(chunk + usize::from(rest > 0));
        if let Some(Some(bytes)) = self.chunks.get_mut(chunk) {
            Rc::make_mut(bytes)[rest..].fill(0);
        }
    }
}

#[derive(Clone)]
struct Unsynced {
    sequence: u64,
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    /// The length that a power cut cannot take away.
    durable_len: u64,
    current: Bytes,
    durable: Bytes,
    unsynced: Vec<Unsynced>,
    sequence: u64,
}

impl Image {
    /// Gives the file `len` bytes of zeros after what it has, none of which are durable.
    pub(super) fn allocate(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Takes all bytes away, from the medium too: one of the outcomes that a power cut may choose.
    pub(super) fn empty(&mut self) {
        *self = Image {
            sequence: self.sequence,
            ..Image::default()
        };
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        assert!(offset + out.len() as u64 <= self.len);
        self.current.read(offset, out);
    }

    pub(super) fn read_durable(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.durable_len as usize];
        self.durable.read(0, &mut bytes);
        bytes
    }

    /// A write that reached the device's cache.
    pub(super) fn write_cached(&mut self, offset: u64, bytes: Vec<u8>) {
        self.current.write(offset, &bytes);
        self.len = self.len.max(offset + bytes.len() as u64);
        self.sequence += 1;
        self.unsynced.push(Unsynced {
            sequence: self.sequence,
            offset,
            bytes,
        });
    }

    /// A write that reached the medium: its range alone, with the length that is needed to read it.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.current.write(offset, bytes);
        self.durable.write(offset, bytes);
        self.len = self.len.max(end);
        self.durable_len = self.durable_len.max(end);
        self.sequence += 1;
        self.forget_unsynced(offset, end);
    }

    /// Cuts a range out of the undecided writes: a newer write there is durable.
    fn forget_unsynced(&mut self, start: u64, end: u64) {
        if self.unsynced.is_empty() {
            return;
        }
        let mut kept = Vec::with_capacity(self.unsynced.len());
        for write in self.unsynced.drain(..) {
            let write_end = write.offset + write.bytes.len() as u64;
            if write_end <= start || write.offset >= end {
                kept.push(write);
                continue;
            }
            let before = start.saturating_sub(write.offset) as usize;
            let after = write_end.saturating_sub(end) as usize;
            for (from, to) in [(0, before), (write.bytes.len() - after, write.bytes.len())] {
                if from < to {
                    kept.push(Unsynced {
                        sequence: write.sequence,
                        offset: write.offset + from as u64,
                        bytes: write.bytes[from..to].to_vec(),
                    });
                }
            }
        }
        self.unsynced = kept;
    }

    /// Names all writes so far, for a sync that begins now.
    pub(super) fn fence(&self) -> u64 {
        self.sequence
    }

    /// Makes the writes up to `fence` and the length durable.
    pub(super) fn sync(&mut self, fence: u64) {
        let durable = &mut self.durable;
        self.unsynced.retain(|write| {
            let covered = write.sequence <= fence;
            if covered {
                durable.write(write.offset, &write.bytes);
            }
            !covered
        });
        self.durable_len = self.durable_len.max(self.len);
    }

    /// What a failed sync leaves: the writes are marked clean but never reach the medium.
    pub(super) fn lose_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Each sector of `bytes` reaches the cache or does not.
    pub(super) fn write_some_sectors(&mut self, offset: u64, bytes: &[u8], rng: &mut Rng) {
        for (index, sector) in bytes.chunks(SECTOR as usize).enumerate() {
            if rng.chance(0.5) {
                self.write_cached(offset + index as u64 * SECTOR, sector.to_vec());
            }
        }
    }

    /// The power goes: each sector of each unsynced write is kept or lost on its own, and so is the
    /// length.
    pub(super) fn cut_power(&mut self, rng: &mut Rng) {
        let keep = match rng.below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => 0.5,
        };
        for write in std::mem::take(&mut self.unsynced) {
            for (index, sector) in write.bytes.chunks(SECTOR as usize).enumerate() {
                if rng.chance(keep) {
                    self.durable
                        .write(write.offset + index as u64 * SECTOR, sector);
                }
            }
        }
        if self.durable_len < self.len {
            let undecided = self.len - self.durable_len;
            self.durable_len += match rng.below(3) {
                0 => 0,
                1 => undecided,
                _ => rng.below(undecided + 1) / 4096 * 4096,
            };
        }
        self.durable.truncate(self.durable_len);
        self.len = self.durable_len;
        self.current = self.durable.clone();
    }

    /// Changes bytes behind everybody's back, in the cache and on the medium.
    pub(super) fn corrupt(&mut self, offset: u64, len: usize, change: impl Fn(&mut [u8])) {
        let mut bytes = vec![0; len];
        for image in [&mut self.current, &mut self.durable] {
            image.read(offset, &mut bytes);
            change(&mut bytes);
            image.write(offset, &bytes);
        }
    }

    /// The file as an image of the disk taken at this moment would hold it.
    pub(super) fn durable_only(&self) -> Image {
        Image {
            len: self.durable_len,
            durable_len: self.durable_len,
            current: self.durable.clone(),
            durable: self.durable.clone(),
            unsynced: Vec::new(),
            sequence: self.sequence,
        }
    }
}
