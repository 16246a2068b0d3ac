//! The commit log of a shard: segments of commit groups of records. Layout: `schema/disk.md`.

pub mod format;
pub mod group;
pub mod reader;
pub mod record;
pub mod segment;
pub mod writer;
