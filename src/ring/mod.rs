//! The ring: positions, virtual nodes, and which shard of a node owns which. Pure.

pub mod position;
pub mod shard_map;
