//! Manifest files whose checksums are right.

use crate::base::checksum::crc32c;
use crate::base::limits::PAGE_BYTES;
use crate::engine::log::group::Link;
use crate::engine::log::segment::Segment;
use crate::engine::manifest::{Cut, State};
use crate::engine::manifest_codec::{self as codec, Block, Edit};
use crate::engine::manifest_format::*;

const SHARD: u16 = 2;
const GENERATION: u64 = 7;
const IDENTITY: u64 = 99;

/// What is spoilt in a block.
const SPOILT_ORDER: u8 = 1;
const SPOILT_CHAIN: u8 = 2;
const SPOILT_IDENTITY: u8 = 4;
const SPOILT_CRC: u8 = 8;
const SPOILT_FORMAT: u8 = 16;
const SPOILT_SHARD: u8 = 32;
const SPOILT_LENGTH: u8 = 64;
const SPOILT_FILLING: u8 = 128;

/// Each is a page at least, and more of them find nothing more.
const BLOCKS_MAX: u64 = 6;

/// Blocks, each three bytes (what is spoilt, how many edits, how many words) and its words; then what stands behind.
pub fn run(data: &[u8]) {
    let _ = codec::decode_file(data, SHARD, GENERATION);
    let mut rest = data;
    let (mut file, mut chain, mut sequence) = (Vec::new(), 0, 0);
    while sequence < BLOCKS_MAX
        && let Some((&[spoilt, edits, words], behind)) = rest.split_first_chunk()
        && let Some((words, behind)) = behind.split_at_checked(usize::from(words) * 8)
    {
        let header = BlockHeader {
            generation: GENERATION,
            sequence,
            identity: IDENTITY,
            chain,
            shard: SHARD,
            edits: edits.into(),
            ..first(4)
        };
        let block = built(header, words, spoilt);
        chain = u32::from_le_bytes(block[8..12].try_into().expect("four"));
        file.extend(block);
        (sequence, rest) = (sequence + 1, behind);
    }
    file.extend_from_slice(rest);
    file.resize(file.len().next_multiple_of(PAGE_BYTES), 0);
    check(&file);
}

fn check(file: &[u8]) {
    let (mut expected, mut end, mut next, mut behind) = (None, 0, (0, 0), false);
    for page in (0..file.len()).step_by(PAGE_BYTES) {
        let Ok(Some((block, len, crc))) = codec::decode(&file[page..]) else {
            continue;
        };
        let again = codec::encode(&block);
        assert_eq!(again.crc, crc);
        assert_eq!(again.bytes, &file[page..page + len]);
        // A block counts if it stands right behind those that count, and is the next of them.
        let first = State::new(block.identity, SHARD, block.shards);
        let state = expected.get_or_insert(first);
        let follows = block.identity == state.identity
            && block.generation == GENERATION
            && (block.sequence, block.chain) == next;
        if page == end && follows {
            block.edits.iter().for_each(|edit| state.apply(edit));
            (end, next) = (page + len, (block.sequence + 1, crc));
        } else if page >= end {
            behind |= block.identity == state.identity;
        }
    }
    let Ok(state) = codec::decode_file(file, SHARD, GENERATION) else {
        return;
    };
    assert_eq!(Some(&state), expected.as_ref());
    assert!(!behind, "blocks that do not follow are left out in silence");
    let rewritten = codec::encode(&Block {
        generation: GENERATION,
        sequence: 0,
        chain: 0,
        identity: state.identity,
        shard: SHARD,
        shards: state.shards,
        edits: state.edits(),
    });
    let mut again = rewritten.bytes;
    assert_eq!(
        codec::decode_file(&again, SHARD, GENERATION).as_ref(),
        Ok(&state)
    );
    again.extend([0; PAGE_BYTES]);
    assert_eq!(codec::decode_file(&again, SHARD, GENERATION), Ok(state));
    assert!(codec::decode_file(&again, SHARD + 1, GENERATION).is_err());
    assert!(codec::decode_file(&again, SHARD, GENERATION + 1).is_err());
    again[CRC_FROM] ^= 1;
    assert!(codec::decode_file(&again, SHARD, GENERATION).is_err());
}

/// The header of a first block, but for its lengths and checksum.
pub fn first(shards: u16) -> BlockHeader {
    BlockHeader {
        magic: MANIFEST_MAGIC,
        format: MANIFEST_FORMAT,
        shards,
        ..bytemuck::Zeroable::zeroed()
    }
}

/// Whole pages of a block with these edits, right but for what is spoilt.
pub fn built(mut header: BlockHeader, words: &[u8], spoilt: u8) -> Vec<u8> {
    let is = |what| spoilt & what != 0;
    header.sequence += u64::from(is(SPOILT_ORDER));
    header.chain ^= u32::from(is(SPOILT_CHAIN));
    header.identity ^= u64::from(is(SPOILT_IDENTITY));
    header.format += u32::from(is(SPOILT_FORMAT));
    header.shard ^= u16::from(is(SPOILT_SHARD));
    let used = HEADER_BYTES + words.len();
    header.used_bytes = used as u32 ^ u32::from(is(SPOILT_LENGTH));
    let mut bytes = vec![0; used.next_multiple_of(PAGE_BYTES)];
    bytes[HEADER_BYTES..used].copy_from_slice(words);
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    let summed = (header.used_bytes as usize).min(bytes.len());
    header.crc = crc32c(&bytes[CRC_FROM..summed]) ^ u32::from(is(SPOILT_CRC));
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    if let Some(last) = bytes[used..].last_mut() {
        *last = u8::from(is(SPOILT_FILLING));
    }
    bytes
}

/// The words of edits as `run` takes them, behind the three bytes.
pub fn block_seed(edits: Vec<Edit>) -> Vec<u8> {
    let count = edits.len() as u8;
    let block = codec::encode(&Block {
        generation: GENERATION,
        sequence: 0,
        chain: 0,
        identity: IDENTITY,
        shard: SHARD,
        shards: 4,
        edits,
    });
    let used = u32::from_le_bytes(block.bytes[44..48].try_into().expect("four")) as usize;
    let words = &block.bytes[HEADER_BYTES..used];
    [&[0, count, (words.len() / 8) as u8], words].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let segment = |number| {
        Edit::Segment(Segment {
            number,
            bytes: 4 << 20,
        })
    };
    let cut = Edit::Cut(Cut {
        segment: 2,
        offset: 8192,
        last: Link {
            number: 40,
            header_crc: 5,
            arcs: [1; 16],
        },
        next_number: 42,
    });
    let whole = block_seed(vec![
        segment(2),
        cut.clone(),
        Edit::HighestSegment(6),
        Edit::FirstGroup(1),
    ]);
    let more = block_seed(vec![Edit::Damaged([3; 16])]);
    let last = block_seed(vec![segment(10), cut]);
    let mut seeds = vec![
        whole.clone(),
        more.clone(),
        [&whole[..], &more, &last].concat(),
    ];
    for bit in 0..8 {
        let mut spoilt = more.clone();
        spoilt[0] = 1 << bit;
        seeds.push([&whole[..], &spoilt, &last].concat());
        seeds.push([&spoilt[..], &last].concat());
    }
    seeds
}
