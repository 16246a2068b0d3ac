//! The block index of a table: which blocks may hold a position.
//!
//! Positions are hashes, so they lie evenly: where a block stands is guessed from its position, and the search goes out
//! from there. Keys of one position may fill several blocks.

use super::Damaged;
use super::format::*;
use crate::base::limits::TABLE_BLOCK_PAGES_MAX;
use crate::ring::position::Position;
use std::ops::Range;

/// Blocks looked at first on each side of the guess; doubled until they enclose the place.
const GALLOP_BLOCKS: usize = 8;

#[derive(Default)]
pub struct IndexBuilder {
    positions: Vec<u64>,
    pages: Vec<u32>,
}

impl IndexBuilder {
    /// `continues`: the block before it holds this position too.
    pub fn push(&mut self, first: Position, page: u32, continues: bool) {
        assert!(page & INDEX_CONTINUES == 0);
        assert!(!continues || self.positions.last().is_some_and(|&last| last <= first.0));
        self.positions.push(first.0);
        self.pages
            .push(page | if continues { INDEX_CONTINUES } else { 0 });
    }

    pub fn blocks(&self) -> usize {
        self.positions.len()
    }

    /// The section, without filling.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blocks() * INDEX_BYTES_PER_BLOCK);
        let positions = self.positions.iter();
        out.extend(positions.flat_map(|position| position.to_le_bytes()));
        out.extend(self.pages.iter().flat_map(|page| page.to_le_bytes()));
        out
    }
}

pub struct Index {
    positions: Box<[u64]>,
    /// With `INDEX_CONTINUES`.
    pages: Box<[u32]>,
    /// The page behind the last block.
    end_page: u32,
}

impl Index {
    /// `bytes`: the section without filling, of `blocks` blocks that end at page `end_page`.
    pub fn decode(bytes: &[u8], blocks: usize, end_page: u32) -> Result<Index, Damaged> {
        assert_eq!(bytes.len(), blocks * INDEX_BYTES_PER_BLOCK);
        let (positions, pages) = bytes.split_at(blocks * size_of::<u64>());
        let positions: Box<[u64]> = positions
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect();
        let pages: Box<[u32]> = pages
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        let starts = pages.iter().map(|page| page & !INDEX_CONTINUES);
        let ends = starts.clone().skip(1).chain([end_page]);
        let lengths = starts.zip(ends).all(|(start, end)| {
            let pages = end.checked_sub(start);
            pages.is_some_and(|pages| (1..=TABLE_BLOCK_PAGES_MAX as u32).contains(&pages))
        });
        // A block that begins with the very position that the one before it begins with continues it.
        let continued = (1..blocks).all(|nth| {
            positions[nth] > positions[nth - 1]
                || positions[nth] == positions[nth - 1] && pages[nth] & INDEX_CONTINUES != 0
        });
        if lengths && continued && pages.first() == Some(&0) {
            Ok(Index {
                positions,
                pages,
                end_page,
            })
        } else {
            Err(Damaged("the block index holds what is never written"))
        }
    }

    pub fn blocks(&self) -> usize {
        self.positions.len()
    }

    pub fn first_position(&self, nth: usize) -> Position {
        Position(self.positions[nth])
    }

    /// First page and end of a block, in pages.
    pub fn pages(&self, nth: usize) -> Range<u32> {
        let end = self.pages.get(nth + 1).copied().unwrap_or(self.end_page);
        self.pages[nth] & !INDEX_CONTINUES..end & !INDEX_CONTINUES
    }

    /// The blocks that may hold the position; none if it lies before the first.
    pub fn find(&self, position: Position) -> Range<usize> {
        let end = self.count_up_to(position.0);
        let Some(mut start) = end.checked_sub(1) else {
            return 0..0;
        };
        while self.positions[start] == position.0 && self.pages[start] & INDEX_CONTINUES != 0 {
            start -= 1;
        }
        start..end
    }

    /// How many blocks begin at or before the position.
    fn count_up_to(&self, position: u64) -> usize {
        let (first, last) = (self.positions[0], self.positions[self.blocks() - 1]);
        if position < first {
            return 0;
        }
        if position >= last {
            return self.blocks();
        }
        // Here first <= position < last, so there are two blocks or more.
        let part = u128::from(position - first) * (self.blocks() - 1) as u128;
        let guess = (part / u128::from(last - first)) as usize;
        let mut step = GALLOP_BLOCKS;
        let (low, high) = if self.positions[guess] <= position {
            let mut low = guess;
            while low + step < self.blocks() && self.positions[low + step] <= position {
                low += step;
                step *= 2;
            }
            (low, (low + step).min(self.blocks()))
        } else {
            let mut high = guess;
            while high > step && self.positions[high - step] > position {
                high -= step;
                step *= 2;
            }
            (high.saturating_sub(step), high)
        };
        low + self.positions[low..high].partition_point(|&first| first <= position)
    }

    pub fn memory_bytes(&self) -> usize {
        self.blocks() * INDEX_BYTES_PER_BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(positions: &[u64], continues: &[bool]) -> Index {
        let mut builder = IndexBuilder::default();
        for (nth, &position) in positions.iter().enumerate() {
            let same = nth > 0 && positions[nth - 1] == position;
            builder.push(
                Position(position),
                nth as u32,
                nth > 0 && (same || continues[nth]),
            );
        }
        let bytes = builder.encode();
        Index::decode(&bytes, positions.len(), positions.len() as u32).expect("it was just made")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn it_finds_what_a_walk_finds(
            mut positions in prop::collection::vec(
                prop_oneof![any::<u64>(), 0u64..30, (0u64..3).prop_map(|n| u64::MAX - n)], 1..300),
            continues in prop::collection::vec(any::<bool>(), 300),
            probes in prop::collection::vec(any::<u64>(), 20),
        ) {
            positions.sort_unstable();
            let index = index(&positions, &continues);
            let near = positions.iter().flat_map(|&p| [p.saturating_sub(1), p, p.saturating_add(1)]);
            for probe in near.chain(probes) {
                let end = positions.iter().take_while(|&&first| first <= probe).count();
                let found = index.find(Position(probe));
                prop_assert_eq!(found.end, end);
                if end > 0 {
                    prop_assert!(found.start < end);
                    // Each but the first begins with the position, and so does what the first continues.
                    prop_assert!(positions[found.start + 1..end].iter().all(|&first| first == probe));
                    let first = found.start;
                    let continued = positions[first] == probe && first > 0
                        && (positions[first - 1] == probe || continues[first]);
                    prop_assert!(!continued);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..40 * INDEX_BYTES_PER_BLOCK),
            end_page: u32,
        ) {
            let blocks = bytes.len() / INDEX_BYTES_PER_BLOCK;
            if let Ok(index) = Index::decode(&bytes[..blocks * INDEX_BYTES_PER_BLOCK], blocks, end_page) {
                index.find(Position(7));
            }
        }
    }
}
