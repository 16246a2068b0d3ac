//! Causality: dots, version vectors, objects with siblings, contexts, actors. Pure.
//!
//! Source: Preguica et al., "Dotted Version Vectors: Efficient Causality Tracking for Distributed
//! Key-Value Stores" (2012).

pub mod actor;
pub mod context;
pub mod dot;
pub mod object;
pub mod object_codec;
pub mod sibling_codec;
pub mod value_hash;
pub mod version_vector;

#[cfg(test)]
mod tests;
