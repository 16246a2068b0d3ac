//! What `benches/` measures of the engine: its inner parts, which nothing else outside of it may name.

pub use super::log::group::{Link, LogId};
pub use super::log::record::{NewRecord, arc};
pub use super::log::segment::Segment;
pub use super::log::writer::LogWriter;
pub use super::memtable::Memtable;
pub use super::table::bench::{Contents, Filter, FilterBuilder, open};
