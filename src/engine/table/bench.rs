//! For `benches/`: a table in memory, without a disk.

use super::footer;
use super::{Builder, TableId};
use crate::base::limits::PAGE_BYTES;

pub use super::contents::Contents;
pub use super::filter::{Filter, FilterBuilder};

/// The bytes of the table that `builder` has gathered, and what an open table keeps in memory.
pub fn open(builder: Builder, id: TableId) -> (Vec<u8>, Contents) {
    let (pieces, summary) = builder.finish();
    let mut file = vec![0; summary.bytes as usize];
    for piece in pieces {
        file[piece.offset as usize..][..piece.len].copy_from_slice(&piece.buffer[..piece.len]);
    }
    let behind = file.len() - PAGE_BYTES;
    let footer = footer::decode(&file[behind..], id, summary.bytes).expect("it was just built");
    let tail = &file[footer.index.offset as usize..behind];
    let contents = Contents::decode(id, &footer, tail).expect("it was just built");
    (file, contents)
}
