//! Fuzz targets of what the engine reads from disk; `crate::fuzz` lists them. An index block's target belongs here too.

pub mod group;
pub mod manifest;
pub mod record;
pub mod replay;
