//! What is in a manifest.

use super::{Flaw, NotRead};
use crate::base::limits::PAGE_BYTES;
use crate::engine::manifest::State;
use crate::engine::manifest_codec::{self as codec, Edit, FileError};
use crate::engine::manifest_format::MANIFEST_FORMAT;

/// A block that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestBlock {
    pub offset: u64,
    pub bytes: u64,
    pub sequence: u64,
    pub edits: Vec<Edit>,
}

/// What is met on the way through a manifest, in its order.
pub enum ManifestPart<'a> {
    Block(&'a ManifestBlock),
    Flaw(&'a Flaw),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSummary {
    pub generation: u64,
    pub blocks: u64,
    pub bytes: u64,
    /// What the whole blocks say together.
    pub state: State,
    pub flaws: u64,
}

struct Walk<'b> {
    summary: Option<ManifestSummary>,
    chain: (u64, u32),
    see: &'b mut dyn FnMut(ManifestPart<'_>),
    flaws: u64,
}

/// Shows the blocks of a manifest and their edits.
pub fn manifest(
    bytes: &[u8],
    see: &mut dyn FnMut(ManifestPart<'_>),
) -> Result<ManifestSummary, NotRead> {
    let mut walk = Walk {
        summary: None,
        chain: (0, 0),
        see,
        flaws: 0,
    };
    let (mut offset, mut gap) = (0, None);
    while offset < bytes.len() {
        match codec::decode(&bytes[offset..]) {
            Ok(Some((block, len, crc))) => {
                walk.gap(gap.take(), offset);
                walk.block(block, (offset, len), crc, bytes.len());
                offset += len;
            }
            Ok(None) => {
                gap.get_or_insert(offset);
                offset += PAGE_BYTES;
            }
            Err(FileError::Newer(found)) => {
                return Err(NotRead::OtherFormat {
                    found,
                    known: MANIFEST_FORMAT,
                });
            }
            Err(FileError::Damaged(what)) => return Err(NotRead::Foreign(what)),
        }
    }
    let mut summary = walk.summary.ok_or(NotRead::Foreign(
        "no block of it is whole: it is no manifest, or damaged all over",
    ))?;
    summary.flaws = walk.flaws;
    if let Some(what) = summary.state.flaw() {
        summary.flaws += 1;
        let what = format!("what it says as a whole is never written: {what}");
        (walk.see)(ManifestPart::Flaw(&Flaw {
            offset: 0,
            bytes: summary.bytes,
            what,
        }));
    }
    Ok(summary)
}

impl Walk<'_> {
    fn flaw(&mut self, offset: usize, bytes: usize, what: &str) {
        self.flaws += 1;
        (self.see)(ManifestPart::Flaw(&Flaw {
            offset: offset as u64,
            bytes: bytes as u64,
            what: what.to_owned(),
        }));
    }

    /// A whole block stands behind what is none: that had been relied on.
    fn gap(&mut self, from: Option<usize>, offset: usize) {
        if let Some(from) = from {
            let what = "no block that is whole, and one stands behind it";
            self.flaw(from, offset - from, what);
        }
    }

    fn block(&mut self, block: codec::Block, place: (usize, usize), crc: u32, bytes: usize) {
        let (offset, len) = place;
        let seen = self.flaws;
        let summary = self.summary.get_or_insert_with(|| ManifestSummary {
            generation: block.generation,
            blocks: 0,
            bytes: bytes as u64,
            state: State::new(block.identity, block.shard, block.shards),
            flaws: 0,
        });
        let state = &summary.state;
        let same = (block.generation, block.identity, block.shard)
            == (summary.generation, state.identity, state.shard);
        if same {
            summary.blocks += 1;
            block
                .edits
                .iter()
                .for_each(|edit| summary.state.apply(edit));
        }
        // After a gap it cannot follow what is lost.
        let follows = (block.sequence, block.chain) == self.chain || seen > 0;
        if !same {
            let what = "a block of another manifest, which is not counted";
            self.flaw(offset, len, what);
        } else if !follows {
            self.flaw(
                offset,
                len,
                "a block that does not follow the one before it",
            );
        }
        self.chain = (block.sequence + 1, crc);
        (self.see)(ManifestPart::Block(&ManifestBlock {
            offset: offset as u64,
            bytes: len as u64,
            sequence: block.sequence,
            edits: block.edits,
        }));
    }
}
