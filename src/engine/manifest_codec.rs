//! Bytes of the manifest: writing blocks, and reading a file that may hold anything.

use super::log::group::{Arcs, Link};
use super::log::segment::Segment;
use super::manifest::{Cut, ReplayFrom, Sealed, State, TableRow};
use super::manifest_format::*;
use crate::base::checksum::crc32c;
use crate::base::limits::PAGE_BYTES;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// This segment may hold groups from now on, behind all named before.
    Segment(Segment),
    Cut(Cut),
    /// Groups were lost that may have held keys of these arcs.
    Damaged(Arcs),
    HighestSegment(u32),
    FirstGroup(u64),
    /// Nothing needs this segment any more: every value in it that lives was copied elsewhere.
    RemoveSegment(u32),
    /// Every record before this place is in a table.
    Replay(ReplayFrom),
    Table(TableRow),
    RemoveTable(u32),
    HighestTable(u32),
    Sealed(Sealed),
    /// Collection may write copies into this segment from now on; no replay reads it.
    ColdSegment(Segment),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub generation: u64,
    pub sequence: u64,
    pub chain: u32,
    pub identity: u64,
    pub shard: u16,
    pub shards: u16,
    pub edits: Vec<Edit>,
}

/// Whole pages, and the checksum that the next block repeats.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    Damaged(&'static str),
    Newer(u32),
}

pub fn encode(block: &Block) -> Encoded {
    let mut words: Vec<u64> = Vec::new();
    for edit in &block.edits {
        match edit {
            Edit::Segment(segment) => {
                words.extend([EDIT_SEGMENT, u64::from(segment.number), segment.bytes]);
            }
            Edit::Cut(cut) => {
                words.extend([EDIT_CUT, u64::from(cut.segment), cut.offset]);
                words.extend([
                    cut.last.number,
                    u64::from(cut.last.header_crc),
                    cut.next_number,
                ]);
                words.extend(cut.last.arcs);
            }
            Edit::Damaged(arcs) => {
                words.push(EDIT_DAMAGED);
                words.extend(arcs);
            }
            Edit::HighestSegment(number) => {
                words.extend([EDIT_HIGHEST_SEGMENT, u64::from(*number)]);
            }
            Edit::FirstGroup(number) => words.extend([EDIT_FIRST_GROUP, *number]),
            Edit::RemoveSegment(number) => {
                words.extend([EDIT_REMOVE_SEGMENT, u64::from(*number)]);
            }
            Edit::Replay(from) => {
                words.extend([EDIT_REPLAY, u64::from(from.segment), from.offset]);
                words.extend([from.last.number, u64::from(from.last.header_crc)]);
                words.extend([from.next_number, from.next_sequence]);
                words.extend(from.last.arcs);
            }
            Edit::Table(table) => {
                words.extend([EDIT_TABLE, u64::from(table.number), table.run]);
                words.extend([table.bytes, u64::from(table.footer_crc)]);
            }
            Edit::RemoveTable(number) => words.extend([EDIT_REMOVE_TABLE, u64::from(*number)]),
            Edit::HighestTable(number) => words.extend([EDIT_HIGHEST_TABLE, u64::from(*number)]),
            Edit::Sealed(sealed) => {
                words.extend([
                    EDIT_SEALED,
                    u64::from(sealed.segment),
                    sealed.end,
                    sealed.last,
                ]);
            }
            Edit::ColdSegment(segment) => {
                words.extend([EDIT_COLD_SEGMENT, u64::from(segment.number), segment.bytes]);
            }
        }
    }
    let used = HEADER_BYTES + words.len() * 8;
    let mut header = BlockHeader {
        magic: MANIFEST_MAGIC,
        crc: 0,
        format: MANIFEST_FORMAT,
        generation: block.generation,
        sequence: block.sequence,
        identity: block.identity,
        chain: block.chain,
        used_bytes: used as u32,
        shard: block.shard,
        shards: block.shards,
        edits: block.edits.len() as u32,
        reserved: 0,
    };
    let mut bytes = vec![0; used.next_multiple_of(PAGE_BYTES)];
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    bytes[HEADER_BYTES..used].copy_from_slice(bytemuck::cast_slice(&words));
    header.crc = crc32c(&bytes[CRC_FROM..used]);
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    Encoded {
        bytes,
        crc: header.crc,
    }
}

/// The block at the front of `bytes`, its length in bytes, and its checksum; `None` if there is no whole one.
pub fn decode(bytes: &[u8]) -> Result<Option<(Block, usize, u32)>, FileError> {
    let Some(head) = bytes.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let header: BlockHeader = bytemuck::pod_read_unaligned(head);
    let used = header.used_bytes as usize;
    let len = used.next_multiple_of(PAGE_BYTES);
    if header.magic != MANIFEST_MAGIC || used < HEADER_BYTES || len > bytes.len() {
        return Ok(None);
    }
    if crc32c(&bytes[CRC_FROM..used]) != header.crc {
        return Ok(None);
    }
    if !(MANIFEST_FORMAT_OLDEST..=MANIFEST_FORMAT).contains(&header.format) {
        return Err(FileError::Newer(header.format));
    }
    let filled = bytes[used..len].iter().all(|&byte| byte == 0);
    if !filled || header.reserved != 0 {
        return Ok(None);
    }
    let Some(edits) = decode_edits(&bytes[HEADER_BYTES..used], header.edits) else {
        return Ok(None);
    };
    let block = Block {
        generation: header.generation,
        sequence: header.sequence,
        chain: header.chain,
        identity: header.identity,
        shard: header.shard,
        shards: header.shards,
        edits,
    };
    Ok(Some((block, len, header.crc)))
}

fn decode_edits(bytes: &[u8], count: u32) -> Option<Vec<Edit>> {
    if !bytes.len().is_multiple_of(8) {
        return None;
    }
    let mut words = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    let mut edits = Vec::new();
    while let Some(tag) = words.next() {
        edits.push(match tag {
            EDIT_SEGMENT => Edit::Segment(Segment {
                number: words.next()?.try_into().ok()?,
                bytes: words.next()?,
            }),
            EDIT_CUT => Edit::Cut(Cut {
                segment: words.next()?.try_into().ok()?,
                offset: words.next()?,
                last: Link {
                    number: words.next()?,
                    header_crc: words.next()?.try_into().ok()?,
                    arcs: Arcs::default(),
                },
                next_number: words.next()?,
            }),
            EDIT_DAMAGED => Edit::Damaged(Arcs::default()),
            EDIT_HIGHEST_SEGMENT => Edit::HighestSegment(words.next()?.try_into().ok()?),
            EDIT_FIRST_GROUP => Edit::FirstGroup(words.next()?),
            EDIT_REMOVE_SEGMENT => Edit::RemoveSegment(words.next()?.try_into().ok()?),
            EDIT_REPLAY => Edit::Replay(ReplayFrom {
                segment: words.next()?.try_into().ok()?,
                offset: words.next()?,
                last: Link {
                    number: words.next()?,
                    header_crc: words.next()?.try_into().ok()?,
                    arcs: Arcs::default(),
                },
                next_number: words.next()?,
                next_sequence: words.next()?,
            }),
            EDIT_TABLE => Edit::Table(TableRow {
                number: words.next()?.try_into().ok()?,
                run: words.next()?,
                bytes: words.next()?,
                footer_crc: words.next()?.try_into().ok()?,
            }),
            EDIT_REMOVE_TABLE => Edit::RemoveTable(words.next()?.try_into().ok()?),
            EDIT_HIGHEST_TABLE => Edit::HighestTable(words.next()?.try_into().ok()?),
            EDIT_SEALED => Edit::Sealed(Sealed {
                segment: words.next()?.try_into().ok()?,
                end: words.next()?,
                last: words.next()?,
            }),
            EDIT_COLD_SEGMENT => Edit::ColdSegment(Segment {
                number: words.next()?.try_into().ok()?,
                bytes: words.next()?,
            }),
            _ => return None,
        });
        if let Some(
            Edit::Damaged(arcs)
            | Edit::Cut(Cut {
                last: Link { arcs, .. },
                ..
            })
            | Edit::Replay(ReplayFrom {
                last: Link { arcs, .. },
                ..
            }),
        ) = edits.last_mut()
        {
            for word in arcs.iter_mut() {
                *word = words.next()?;
            }
        }
    }
    (edits.len() == count as usize).then_some(edits)
}

/// What the file of a generation says. A torn last block is left out; a bad one before a whole one is damage.
pub fn decode_file(bytes: &[u8], shard: u16, generation: u64) -> Result<State, FileError> {
    let Some((first, mut offset, mut chain)) = decode(bytes)? else {
        return Err(FileError::Damaged("its first block fails its checksum"));
    };
    let belongs = first.shard == shard && first.generation == generation;
    let belongs = belongs && (first.sequence, first.chain) == (0, 0);
    if !belongs {
        return Err(FileError::Damaged(
            "it belongs to another shard or generation",
        ));
    }
    let mut state = State::new(first.identity, shard, first.shards);
    first.edits.iter().for_each(|edit| state.apply(edit));
    let mut sequence = 1;
    while let Some((block, len, crc)) = decode(&bytes[offset..])? {
        let follows = block.identity == first.identity
            && block.generation == generation
            && block.sequence == sequence
            && block.chain == chain;
        if !follows {
            return Err(FileError::Damaged("its blocks do not follow each other"));
        }
        block.edits.iter().for_each(|edit| state.apply(edit));
        (offset, chain, sequence) = (offset + len, crc, sequence + 1);
    }
    // An edit is used only after it is durable, so a whole block behind a bad one proves that the bad one was relied
    // on.
    for page in (offset..bytes.len()).step_by(PAGE_BYTES) {
        let later = decode(&bytes[page..])?;
        if later.is_some_and(|(block, _, _)| block.identity == first.identity) {
            return Err(FileError::Damaged(
                "a block before its last one fails its checksum",
            ));
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::format::ARC_WORDS;
    use proptest::prelude::*;

    fn edit() -> impl Strategy<Value = Edit> {
        let arcs = any::<[u64; ARC_WORDS]>();
        prop_oneof![
            (any::<u32>(), any::<u64>())
                .prop_map(|(number, bytes)| Edit::Segment(Segment { number, bytes })),
            (any::<u32>(), any::<[u64; 3]>(), any::<u32>(), arcs).prop_map(
                |(segment, [offset, number, next_number], header_crc, arcs)| Edit::Cut(Cut {
                    segment,
                    offset,
                    last: Link {
                        number,
                        header_crc,
                        arcs
                    },
                    next_number,
                })
            ),
            arcs.prop_map(Edit::Damaged),
            any::<u32>().prop_map(Edit::HighestSegment),
            any::<u64>().prop_map(Edit::FirstGroup),
            any::<u32>().prop_map(Edit::RemoveSegment),
            (any::<u32>(), any::<[u64; 4]>(), any::<u32>(), arcs).prop_map(
                |(segment, [offset, number, next_number, next_sequence], header_crc, arcs)| {
                    Edit::Replay(ReplayFrom {
                        segment,
                        offset,
                        last: Link {
                            number,
                            header_crc,
                            arcs,
                        },
                        next_number,
                        next_sequence,
                    })
                }
            ),
            (any::<[u32; 2]>(), any::<[u64; 2]>()).prop_map(
                |([number, footer_crc], [run, bytes])| {
                    Edit::Table(TableRow {
                        number,
                        run,
                        bytes,
                        footer_crc,
                    })
                }
            ),
            any::<u32>().prop_map(Edit::RemoveTable),
            any::<u32>().prop_map(Edit::HighestTable),
            (any::<u32>(), any::<[u64; 2]>())
                .prop_map(|(segment, [end, last])| Edit::Sealed(Sealed { segment, end, last })),
            (any::<u32>(), any::<u64>())
                .prop_map(|(number, bytes)| Edit::ColdSegment(Segment { number, bytes })),
        ]
    }

    /// A file of a first block and one block for each further edit, and what it says.
    fn file(edits: &[Vec<Edit>]) -> (Vec<u8>, State, Vec<usize>) {
        let mut state = State::new(99, 2, 4);
        let (mut bytes, mut chain, mut ends) = (Vec::new(), 0, Vec::new());
        for (sequence, edits) in edits.iter().enumerate() {
            edits.iter().for_each(|edit| state.apply(edit));
            let block = encode(&Block {
                generation: 7,
                sequence: sequence as u64,
                chain,
                identity: 99,
                shard: 2,
                shards: 4,
                edits: edits.clone(),
            });
            chain = block.crc;
            bytes.extend(block.bytes);
            ends.push(bytes.len());
        }
        bytes.resize(bytes.len() + 3 * PAGE_BYTES, 0);
        (bytes, state, ends)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_is_read_back(
            edits in prop::collection::vec(prop::collection::vec(edit(), 0..40), 1..6),
        ) {
            let (bytes, state, _) = file(&edits);
            prop_assert_eq!(decode_file(&bytes, 2, 7), Ok(state));
            prop_assert!(decode_file(&bytes, 3, 7).is_err());
            prop_assert!(decode_file(&bytes, 2, 8).is_err());
        }

        #[test]
        fn a_torn_last_block_is_left_out_and_any_other_damage_is_seen(
            edits in prop::collection::vec(prop::collection::vec(edit(), 1..40), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let (mut bytes, _, ends) = file(&edits);
            let at = at.index(*ends.last().expect("a first block"));
            bytes[at] ^= 1 << bit;
            let block = ends.iter().position(|&end| at < end).expect("inside one");
            let read = decode_file(&bytes, 2, 7);
            if block + 1 == ends.len() && block > 0 {
                let (_, before, _) = file(&edits[..block]);
                prop_assert_eq!(read, Ok(before));
            } else {
                prop_assert!(read.is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode_file(&bytes, 0, 0).is_err());
            let _ = decode_edits(&bytes, 1);
        }
    }
}
