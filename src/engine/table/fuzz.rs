//! Fuzz target: whole tables whose checksums are right and whose contents may make no sense, opened, walked, searched.

use super::Damaged;
use super::block::{self, Block, Search};
use super::contents::Contents;
use super::dictionary::DictionaryBuilder;
use super::entry_codec::{self, TableEntry};
use super::filter::FilterBuilder;
use super::footer;
use super::format::*;
use super::name::{BlockName, TableId};
use super::walk::Walk;
use crate::base::checksum::crc32c;
use crate::base::limits::{INLINE_VALUE_BYTES_MAX, PAGE_BYTES};
use crate::base::units::UnixMillis;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::entry::{Location, Place};
use crate::engine::key::{Key, KeyRef};
use crate::ring::position::Position;
use std::ops::Bound;
use std::rc::Rc;

const ID: TableId = TableId {
    identity: 0x0123_4567_89ab_cdef,
    shard: 3,
    number: 12,
};

/// What is left as it came.
const RAW_HEADERS: u8 = 1;
const RAW_INDEX: u8 = 2;
const RAW_FILTER: u8 = 4;
const RAW_FOOTER: u8 = 8;
const RAW_FILLING: u8 = 16;

/// Each is a page at least, and more of them find nothing more.
const BLOCKS_MAX: usize = 4;
const PAGES_MAX: usize = 3;

/// Five bytes (what is not put right; how many blocks; how many incarnations; a bit to be spoilt at the end), the
/// incarnations, then blocks: three bytes (entries, length), the header if it stays as it is, offsets and entries. Then
/// what else stays as it is: the index; parts and length of the filter, and its bytes; a word of the footer, and where.
pub fn run(data: &[u8]) {
    let Some(built) = Input(data).built() else {
        return;
    };
    let whole = check(&built);
    let mut spoilt = built.file;
    let bit = usize::from(built.bit) * spoilt.len() / (1 << 16);
    spoilt[bit] ^= 1 << (built.bit % 8);
    let spoilt = Built {
        file: spoilt,
        ..built
    };
    assert!(!check(&spoilt) || !whole, "a spoilt table is whole");
}

struct Built {
    file: Vec<u8>,
    /// Index, filter and footer say what the blocks hold.
    honest: bool,
    bit: u16,
}

/// Whether it could be opened and walked to its end.
fn check(built: &Built) -> bool {
    let (front, last) = built.file.split_at(built.file.len() - PAGE_BYTES);
    let bytes = built.file.len() as u64;
    let Ok(footer) = footer::decode(last, ID, bytes) else {
        return false;
    };
    let others = [
        TableId { identity: 1, ..ID },
        TableId { shard: 1, ..ID },
        TableId { number: 1, ..ID },
    ];
    assert!(
        others
            .iter()
            .all(|&id| footer::decode(last, id, bytes).is_err())
    );
    assert!(footer::decode(last, ID, bytes + PAGE_BYTES as u64).is_err());
    let (blocks, tail) = front.split_at(footer.index.offset as usize);
    let Ok(table) = Contents::decode(ID, &footer, tail) else {
        return false;
    };
    // A part of the filter takes a half more in memory than in the file.
    assert!(table.memory_bytes() <= size_of::<Contents>() + 2 * tail.len());
    let view = View {
        table: &table,
        blocks,
    };
    let walked = view.walk(Bound::Unbounded);
    let whole = walked.is_ok();
    let entries = walked.unwrap_or_else(|before| before);
    for (nth, (key, entry)) in entries.iter().enumerate() {
        let found = view.search(key.as_ref());
        if whole && built.honest {
            assert_eq!(found.as_ref(), Ok(&Some(entry.clone())));
            let behind = view.walk(Bound::Excluded(key.clone()));
            assert_eq!(behind.as_deref(), Ok(&entries[nth + 1..]));
        }
        // It may hide behind a wrong index or filter, but nothing else is taken for it.
        if whole && let Ok(Some(found)) = found {
            assert_eq!(found, *entry);
        }
        let near = |position, more: &[u8]| {
            let name = [&key.key[..], more].concat();
            view.search(KeyRef {
                position: Position(position),
                bucket: &key.bucket,
                key: &name,
            })
        };
        for (position, more) in [
            (key.position.0, &b"\0"[..]),
            (key.position.0.wrapping_add(1), b""),
            (key.position.0 ^ 1 << 63, b""),
        ] {
            let found = near(position, more);
            let there = entries.iter().any(|(other, _)| {
                other.position.0 == position
                    && other.bucket == key.bucket
                    && *other.key == *[&key.key[..], more].concat()
            });
            assert!(
                !whole || there || !matches!(found, Ok(Some(_))),
                "it is not there"
            );
        }
    }
    if whole {
        view.encode_again(&entries);
    }
    whole
}

type Entries = Vec<(Key, TableEntry)>;

struct View<'a> {
    table: &'a Contents,
    blocks: &'a [u8],
}

impl View<'_> {
    fn bytes(&self, name: BlockName) -> &[u8] {
        let from = name.page as usize * PAGE_BYTES;
        &self.blocks[from..from + name.pages as usize * PAGE_BYTES]
    }

    /// The entries to the end, or those before what is damaged.
    fn walk(&self, from: Bound<Key>) -> Result<Entries, Entries> {
        let mut walk = Walk::new(self.table, from);
        let mut entries = Entries::new();
        while let Some(nth) = walk.wanted(self.table) {
            let bytes = self.bytes(self.table.block_name(nth));
            match walk.next_in(self.table, bytes) {
                Ok(Some(found)) => entries.push(found),
                Ok(None) => {}
                Err(damaged) => {
                    assert_eq!(walk.next_in(self.table, bytes), Err(damaged));
                    return Err(entries);
                }
            }
            assert!(entries.len() <= self.blocks.len() / OFFSET_BYTES);
        }
        assert!(entries.is_sorted_by(|(one, _), (next, _)| one < next));
        Ok(entries)
    }

    fn search(&self, key: KeyRef<'_>) -> Result<Option<TableEntry>, Damaged> {
        if !self.table.may_hold(key.position) {
            return Ok(None);
        }
        for name in self.table.blocks(key.position) {
            let bytes = self.bytes(name);
            self.table.verify(name, bytes)?;
            match self.table.search(bytes, key)? {
                Search::Found(entry) => return Ok(Some(entry)),
                Search::Absent => return Ok(None),
                Search::Next => {}
            }
        }
        Ok(None)
    }

    /// What is read is what the encoder writes: a merge takes it over.
    fn encode_again(&self, entries: &[(Key, TableEntry)]) {
        let mut dictionary = DictionaryBuilder::default();
        for &incarnation in self.table.dictionary() {
            dictionary.number(incarnation);
        }
        let mut left = entries;
        for nth in 0..self.table.index().blocks() {
            let bytes = self.bytes(self.table.block_name(nth));
            let header: BlockHeader = bytemuck::pod_read_unaligned(&bytes[..BLOCK_HEADER_BYTES]);
            let count = usize::from(header.entries);
            let mut again = Vec::new();
            for (key, entry) in &left[..count] {
                let (object, mine) = (&entry.object, entry.mine);
                entry_codec::encode(key.as_ref(), object, mine, &mut dictionary, &mut again);
            }
            let from = BLOCK_HEADER_BYTES + count * OFFSET_BYTES;
            assert_eq!(again, &bytes[from..header.used_bytes as usize]);
            left = &left[count..];
        }
        assert!(left.is_empty());
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn counted(&mut self) -> Option<(u8, &'a [u8])> {
        let [count, low, high] = self.array()?;
        let bytes = self.take(u16::from_le_bytes([low, high]).into())?;
        Some((count, bytes))
    }

    fn built(mut self) -> Option<Built> {
        let [raw, blocks, incarnations, bit, bit_high] = self.array()?;
        let is = |what| raw & what != 0;
        let blocks = usize::from(blocks) % BLOCKS_MAX + 1;
        let dictionary = self.take(usize::from(incarnations) * 8)?.to_vec();
        let mut file = Vec::new();
        let mut pages = Vec::new();
        // First and last position of each block, and all of them.
        let mut bounds: Vec<(u64, u64)> = Vec::new();
        let mut positions = Vec::new();
        for _ in 0..blocks {
            let (entries, body) = self.counted()?;
            let used = BLOCK_HEADER_BYTES + body.len();
            let mut header = BlockHeader {
                crc: 0,
                used_bytes: used as u32,
                pages: used.div_ceil(PAGE_BYTES) as u16,
                entries: entries.into(),
                zero: 0,
            };
            let mut len = used.next_multiple_of(PAGE_BYTES);
            if is(RAW_HEADERS) {
                header = bytemuck::pod_read_unaligned(self.take(BLOCK_HEADER_BYTES)?);
                len = len.max(usize::from(header.pages) % (PAGES_MAX + 1) * PAGE_BYTES);
            }
            let page = (file.len() / PAGE_BYTES) as u32;
            let mut block = bytemuck::bytes_of(&header).to_vec();
            block.extend_from_slice(body);
            block.resize(len, 0);
            block[len - 1] |= u8::from(is(RAW_FILLING));
            block::put_right(ID, page, &mut block);
            let of_entry = |block: &Block<'_>, nth| block.entry(nth).map(|(key, _)| key.position.0);
            let found: Vec<u64> = Block::new(&block).map_or(Vec::new(), |block| {
                let all = (0..block.entries()).map_while(|nth| of_entry(&block, nth).ok());
                all.collect()
            });
            let bound = |end: Option<&u64>| end.copied().unwrap_or_default();
            bounds.push((bound(found.first()), bound(found.last())));
            positions.extend(found);
            pages.push(page);
            file.extend(block);
        }
        positions.sort_unstable();
        let mut index: Vec<u8> = bounds.iter().flat_map(|b| b.0.to_le_bytes()).collect();
        for (nth, &page) in pages.iter().enumerate() {
            let continues = nth > 0 && bounds[nth - 1].1 == bounds[nth].0;
            let flag = if continues { INDEX_CONTINUES } else { 0 };
            index.extend((page | flag).to_le_bytes());
        }
        if is(RAW_INDEX) {
            index = self.take(index.len())?.to_vec();
        }
        let (filter_parts, filter) = if is(RAW_FILTER) || positions.is_empty() {
            let (parts, bytes) = self.counted()?;
            (u32::from(parts), bytes.to_vec())
        } else {
            let mut filter = FilterBuilder::default();
            positions.iter().for_each(|&p| filter.add(Position(p)));
            filter.finish()
        };
        let section = |file: &mut Vec<u8>, bytes: &[u8], align: usize| {
            let offset = file.len();
            file.extend_from_slice(bytes);
            file.resize(file.len().next_multiple_of(align), 0);
            Section {
                offset: offset as u64,
                bytes: (file.len() - offset) as u64,
                crc: crc32c(&file[offset..]),
                zero: 0,
            }
        };
        let first_position = u64::from_le_bytes(*index.first_chunk()?);
        let index = section(&mut file, &index, WORD_BYTES);
        let filter = section(&mut file, &filter, WORD_BYTES);
        let dictionary = section(&mut file, &dictionary, PAGE_BYTES);
        let mut footer = Footer {
            magic: TABLE_MAGIC,
            crc: 0,
            format: TABLE_FORMAT,
            identity: ID.identity,
            shard: ID.shard.into(),
            number: ID.number,
            entries: positions.len().max(blocks) as u64,
            bytes: (file.len() + PAGE_BYTES) as u64,
            first_position,
            last_position: bounds.last().map_or(0, |last| last.1).max(first_position),
            blocks: blocks as u32,
            filter_parts,
            incarnations: incarnations.into(),
            zero: 0,
            index,
            filter,
            dictionary,
        };
        if is(RAW_FOOTER) {
            let [word] = self.array()?;
            let words = bytemuck::bytes_of_mut(&mut footer);
            let at = usize::from(word) % (FOOTER_BYTES / WORD_BYTES) * WORD_BYTES;
            words[at..at + WORD_BYTES].copy_from_slice(self.take(WORD_BYTES)?);
            footer.crc = 0;
        }
        file.extend(footer::encode(&footer).0);
        Some(Built {
            file,
            honest: raw & (RAW_HEADERS | RAW_INDEX | RAW_FILTER | RAW_FOOTER) == 0,
            bit: u16::from_le_bytes([bit, bit_high]),
        })
    }
}

/// An entry with siblings of every kind.
fn entry(siblings: u64, mine: bool) -> TableEntry {
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    let location = Location {
        segment: 3,
        offset_words: 32,
        bytes: 200,
    };
    let dot = |n: u64| Dot {
        actor: Actor {
            incarnation: Incarnation(n % 3 * 1000 + 1),
            birth: n as u32,
        },
        counter: n + 1,
    };
    for n in 0..siblings {
        let (kind, value) = match n % 4 {
            0 => (Kind::Value, Place::Inline(Rc::from(&b"a value"[..]))),
            1 => (Kind::Tombstone, Place::Nowhere),
            2 => (
                Kind::Value,
                Place::At {
                    location,
                    sibling: 0,
                    bytes: INLINE_VALUE_BYTES_MAX as u32 + 1,
                },
            ),
            _ => (Kind::ValueLost, Place::Nowhere),
        };
        object.vector.add(dot(n));
        object.siblings.push(Sibling {
            dot: dot(n),
            operation: OperationId(n.into()),
            kind,
            written: UnixMillis(1_700_000_000_000),
            expires: UnixMillis(0),
            value_hash: 77,
            value,
        });
    }
    object.siblings.sort_by_key(|sibling| sibling.dot);
    let mine = mine.then(|| dot(0));
    TableEntry { object, mine }
}

/// An input whose blocks hold these entries: positions of the keys, siblings.
fn seed(raw: u8, blocks: &[&[(u64, u64)]], behind: &[u8]) -> Vec<u8> {
    let mut dictionary = DictionaryBuilder::default();
    let mut encoded = Vec::new();
    let mut name = 0u8;
    for block in blocks {
        let mut offsets = Vec::new();
        let mut bytes = Vec::new();
        for &(position, siblings) in *block {
            let at = BLOCK_HEADER_BYTES + block.len() * OFFSET_BYTES + bytes.len();
            offsets.extend((at as u16).to_le_bytes());
            name += 1;
            let key = KeyRef {
                position: Position(position),
                bucket: b"b",
                key: &[name],
            };
            let TableEntry { object, mine } = entry(siblings, siblings % 2 == 1);
            entry_codec::encode(key, &object, mine, &mut dictionary, &mut bytes);
        }
        let len = (offsets.len() + bytes.len()) as u16;
        encoded.push(block.len() as u8);
        encoded.extend(len.to_le_bytes());
        encoded.extend(offsets);
        encoded.extend(bytes);
        if raw & RAW_HEADERS != 0 {
            let header = BlockHeader {
                crc: 0,
                used_bytes: u32::from(len) + BLOCK_HEADER_BYTES as u32,
                pages: 1,
                entries: block.len() as u16,
                zero: 0,
            };
            encoded.extend(bytemuck::bytes_of(&header));
        }
    }
    let incarnations = dictionary.incarnations().len() as u8;
    let head = [raw, blocks.len() as u8 - 1, incarnations, 99, 77];
    [&head[..], &dictionary.encode(), &encoded, behind].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    const TOP: u64 = u64::MAX;
    let two: &[&[(u64, u64)]] = &[&[(16, 1), (32, 2)], &[(48, 1), (64, 3)]];
    let mut index = Vec::new();
    index.extend(
        [16u64, 48]
            .iter()
            .flat_map(|position| position.to_le_bytes()),
    );
    index.extend([0u32, 1].iter().flat_map(|page| page.to_le_bytes()));
    let mut filter = FilterBuilder::default();
    for position in [16, 32, 48, 64] {
        filter.add(Position(position));
    }
    let (parts, bytes) = filter.finish();
    let len = (bytes.len() as u16).to_le_bytes();
    let filter = [&[parts as u8, len[0], len[1]][..], &bytes].concat();
    let word = |number: u8, word: u64| [&[number][..], &word.to_le_bytes()].concat();
    vec![
        seed(0, &[&[(16, 1)]], &[]),
        seed(0, &[&[(0, 0), (0, 4), (TOP, 6)]], &[]),
        seed(0, two, &[]),
        // One position over blocks.
        seed(
            0,
            &[
                &[(1, 1), (16, 1)],
                &[(16, 2)],
                &[(16, 0), (16, 1)],
                &[(17, 1)],
            ],
            &[],
        ),
        seed(0, &[&[(32, 1), (16, 1)]], &[]),
        seed(RAW_HEADERS, two, &[]),
        seed(RAW_INDEX, two, &index),
        seed(RAW_FILTER, two, &filter),
        seed(RAW_FOOTER, two, &word(4, 4)),
        seed(RAW_FOOTER, two, &word(7, TOP)),
        seed(RAW_FOOTER, two, &word(5, TOP)),
        seed(RAW_FILLING, two, &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::table::Builder;

    #[test]
    fn what_is_put_right_is_what_the_builder_writes() {
        let mut builder = Builder::new(ID);
        let entries: [(u64, u64); 3] = [(16, 1), (32, 2), (32, 6)];
        for (nth, &(position, siblings)) in entries.iter().enumerate() {
            let key = KeyRef {
                position: Position(position),
                bucket: b"b",
                key: &[nth as u8 + 1],
            };
            let TableEntry { object, mine } = entry(siblings, siblings % 2 == 1);
            builder.add(key, &object, mine);
        }
        let pieces = builder.finish().0;
        let pieces = pieces.iter().map(|piece| &piece.buffer[..piece.len]);
        let written: Vec<u8> = pieces.collect::<Vec<_>>().concat();
        let built = Input(&seed(0, &[&entries], &[])).built().expect("a seed");
        assert_eq!(built.file, written);
        assert!(built.honest && check(&built));
    }

    #[test]
    fn a_seed_is_whole_unless_it_is_spoilt() {
        let whole = |seed: Vec<u8>| check(&Input(&seed).built().expect("a seed"));
        let whole: Vec<bool> = seeds().into_iter().map(whole).collect();
        let (t, f) = (true, false);
        assert_eq!(whole, [t, t, t, t, f, t, t, t, t, t, f, f]);
    }
}
