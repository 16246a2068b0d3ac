//! Builds a table from entries in key order: pages come out as they fill, so that memory holds little more than the
//! block index and the filter.

use super::block::BlockBuilder;
use super::dictionary::DictionaryBuilder;
use super::entry_codec;
use super::filter::FilterBuilder;
use super::footer;
use super::format::*;
use super::index::IndexBuilder;
use super::name::TableId;
use crate::base::checksum::crc32c;
use crate::base::limits::{PAGE_BYTES, TABLE_BYTES_MAX, TABLE_ENTRIES_MAX, TABLE_WRITE_BYTES};
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::engine::entry::Place;
use crate::engine::key::KeyRef;
use crate::ring::position::Position;
use crate::runtime::buffer::PageBuffer;
use std::collections::VecDeque;

/// Whole pages to be written at `offset`: the first `len` bytes of `buffer`.
pub struct Piece {
    pub offset: u64,
    pub buffer: PageBuffer,
    pub len: usize,
}

/// What the manifest says of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub number: u32,
    pub entries: u64,
    /// Of the file.
    pub bytes: u64,
    /// Checksum of the footer, which holds those of the rest.
    pub footer_crc: u32,
    pub first: Position,
    pub last: Position,
}

pub struct Builder {
    id: TableId,
    block: BlockBuilder,
    /// Position of the block's first entry, and whether the block before it holds it too.
    block_first: (Position, bool),
    dictionary: DictionaryBuilder,
    index: IndexBuilder,
    filter: FilterBuilder,
    pages: Pages,
    /// Scratch: one entry, one block.
    entry: Vec<u8>,
    finished: Vec<u8>,
    entries: u64,
    first: Position,
    /// The last key: position, bucket, key.
    last: (Position, Vec<u8>, Vec<u8>),
}

impl Builder {
    pub fn new(id: TableId) -> Builder {
        Builder {
            id,
            block: BlockBuilder::default(),
            block_first: (Position(0), false),
            dictionary: DictionaryBuilder::default(),
            index: IndexBuilder::default(),
            filter: FilterBuilder::default(),
            pages: Pages::default(),
            entry: Vec::new(),
            finished: Vec::new(),
            entries: 0,
            first: Position(0),
            last: (Position(0), Vec::new(), Vec::new()),
        }
    }

    /// Keys come in ascending order, each once, and none is added to a full table.
    pub fn add(&mut self, key: KeyRef<'_>, object: &Object<Place>, mine: Option<Dot>) {
        assert!(!self.is_full());
        let last = KeyRef {
            position: self.last.0,
            bucket: &self.last.1,
            key: &self.last.2,
        };
        assert!(self.entries == 0 || last < key, "keys come in order");
        self.entry.clear();
        entry_codec::encode(key, object, mine, &mut self.dictionary, &mut self.entry);
        if !self.block.has_room(self.entry.len()) {
            self.finish_block();
        }
        if self.block.is_empty() {
            let continues = self.entries > 0 && self.last.0 == key.position;
            self.block_first = (key.position, continues);
        }
        self.block.push(&self.entry);
        self.filter.add(key.position);
        if self.entries == 0 {
            self.first = key.position;
        }
        self.entries += 1;
        self.last.0 = key.position;
        self.last.1.clear();
        self.last.1.extend_from_slice(key.bucket);
        self.last.2.clear();
        self.last.2.extend_from_slice(key.key);
    }

    fn finish_block(&mut self) {
        let page = (self.pages.end() / PAGE_BYTES as u64) as u32;
        let (first, continues) = self.block_first;
        self.index.push(first, page, continues);
        self.finished.clear();
        self.block.finish(self.id, page, &mut self.finished);
        self.pages.put(&self.finished);
    }

    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of the blocks so far; what stands behind them adds a few hundredths.
    pub fn bytes(&self) -> u64 {
        self.pages.end()
            + if self.block.is_empty() {
                0
            } else {
                PAGE_BYTES as u64
            }
    }

    /// Whether the next entry belongs into another table.
    pub fn is_full(&self) -> bool {
        self.entries >= TABLE_ENTRIES_MAX || self.bytes() >= TABLE_BYTES_MAX
    }

    /// A piece that is ready to be written, in the order of the file. Memory stays bounded if they are taken between
    /// the calls of `add`.
    pub fn take_piece(&mut self) -> Option<Piece> {
        self.pages.full.pop_front()
    }

    /// What is left to be written, and what the manifest will say. There is an entry at least.
    pub fn finish(mut self) -> (Vec<Piece>, Summary) {
        assert!(self.entries > 0, "an empty table is not written");
        self.finish_block();
        let blocks = self.index.blocks() as u32;
        let incarnations = self.dictionary.incarnations().len() as u32;
        let (filter_parts, filter) = self.filter.finish();
        let index = self.pages.put_section(self.index.encode(), WORD_BYTES);
        let filter = self.pages.put_section(filter, WORD_BYTES);
        let dictionary = self.pages.put_section(self.dictionary.encode(), PAGE_BYTES);
        let bytes = self.pages.end() + PAGE_BYTES as u64;
        let (page, footer_crc) = footer::encode(&Footer {
            magic: TABLE_MAGIC,
            crc: 0,
            format: TABLE_FORMAT,
            identity: self.id.identity,
            shard: u32::from(self.id.shard),
            number: self.id.number,
            entries: self.entries,
            bytes,
            first_position: self.first.0,
            last_position: self.last.0.0,
            blocks,
            filter_parts,
            incarnations,
            zero: 0,
            index,
            filter,
            dictionary,
        });
        self.pages.put(&page);
        let summary = Summary {
            number: self.id.number,
            entries: self.entries,
            bytes,
            footer_crc,
            first: self.first,
            last: self.last.0,
        };
        (self.pages.finish(), summary)
    }
}

/// The bytes of the file, gathered into pieces.
#[derive(Default)]
struct Pages {
    full: VecDeque<Piece>,
    /// Being filled.
    open: Option<Piece>,
    /// Where the next byte goes.
    end: u64,
}

impl Pages {
    fn end(&self) -> u64 {
        self.end
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let offset = self.end;
            let piece = self.open.get_or_insert_with(|| Piece {
                offset,
                buffer: PageBuffer::zeroed(TABLE_WRITE_BYTES),
                len: 0,
            });
            let count = bytes.len().min(piece.buffer.len() - piece.len);
            let (now, later) = bytes.split_at(count);
            piece.buffer[piece.len..piece.len + count].copy_from_slice(now);
            piece.len += count;
            self.end += count as u64;
            bytes = later;
            if piece.len == piece.buffer.len() {
                self.full.extend(self.open.take());
            }
        }
    }

    /// Where the section lies that is filled with zeroes to a multiple of `align` of the file.
    fn put_section(&mut self, mut bytes: Vec<u8>, align: usize) -> Section {
        let offset = self.end;
        let end = (offset + bytes.len() as u64).next_multiple_of(align as u64);
        bytes.resize((end - offset) as usize, 0);
        self.put(&bytes);
        Section {
            offset,
            bytes: bytes.len() as u64,
            crc: crc32c(&bytes),
            zero: 0,
        }
    }

    fn finish(self) -> Vec<Piece> {
        assert!(self.end.is_multiple_of(PAGE_BYTES as u64));
        self.full.into_iter().chain(self.open).collect()
    }
}
