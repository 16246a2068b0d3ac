//! The ring: positions, virtual nodes, which nodes hold a key, and which shard of a node. Pure.

pub mod claim;
pub mod codec;
pub mod member;
pub mod owners;
pub mod position;
mod preference;
pub mod register;
pub mod shard_map;

#[cfg(test)]
mod tests;
