//! Fuzz targets of what the engine reads from disk; `crate::fuzz` lists them. That of tables stands with them.

pub mod group;
pub mod manifest;
pub mod record;
pub mod replay;

pub use super::table::fuzz as table;
