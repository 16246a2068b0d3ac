//! Index tables: key -> entry in sorted, immutable files, for what memory cannot hold. A table is written once, front
//! to back, and counts only from the moment the manifest names it, behind a sync of the file and of its directory.
//!
//! Invariants: a table never holds two entries of one key; it never says "not here" of a key that it holds; bytes that
//! fail a checksum are an error, never "absent"; bytes that are not what a builder writes are refused and never panic.

#[cfg(feature = "sim")]
pub mod bench;
pub(super) mod block;
mod builder;
mod check;
pub(super) mod contents;
mod cursor;
pub(super) mod dictionary;
mod entry_codec;
mod file;
mod filter;
pub(super) mod footer;
pub mod format;
#[cfg(feature = "sim")]
pub mod fuzz;
mod index;
mod name;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod walk;

pub use block::Search;
pub use builder::{Builder, Piece, Summary};
pub use check::Checked;
pub use cursor::Cursor;
pub use entry_codec::TableEntry;
#[cfg(test)]
pub use entry_codec::tests::object as object_of_test;
pub use file::{Table, TableWriter};
pub use name::{BlockName, DIRECTORY, TableId, name, parse_name};

/// Bytes are not what a builder writes at that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub &'static str);
