//! Which shard of a node owns which virtual node: consecutive, even runs.

use super::position::VirtualNode;
use std::ops::Range;

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
        assert!(virtual_nodes.is_power_of_two());
        assert!(shards >= 1);
        assert!(u32::from(shards) <= virtual_nodes);
        ShardMap {
            virtual_nodes,
            shards,
        }
    }

    pub fn owner(&self, virtual_node: VirtualNode) -> ShardId {
        assert!(virtual_node.0 < self.virtual_nodes);
        let scaled = u64::from(virtual_node.0) * u64::from(self.shards);
        let shard = scaled / u64::from(self.virtual_nodes);
        assert!(shard < u64::from(self.shards));
        ShardId(shard as u16)
    }

    /// The numbers of the virtual nodes that `shard` owns: one run, never empty.
    pub fn run(&self, shard: ShardId) -> Range<u32> {
        assert!(shard.0 < self.shards);
        // The first virtual node whose scaled number reaches a shard's: the ceiling of the inverse.
        let first = |shard: u64| {
            let scaled = shard * u64::from(self.virtual_nodes);
            scaled.div_ceil(u64::from(self.shards)) as u32
        };
        let run = first(u64::from(shard.0))..first(u64::from(shard.0) + 1);
        assert!(run.start < run.end);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(virtual_nodes: u32, shards: u16) {
        let map = ShardMap::even(virtual_nodes, shards);
        let mut next = 0;
        for shard in (0..shards).map(ShardId) {
            let run = map.run(shard);
            assert_eq!(run.start, next, "runs follow each other");
            let even = virtual_nodes / u32::from(shards);
            assert!((even..=even + 1).contains(&(run.end - run.start)));
            // The twin: ask for the owner of each.
            assert!(
                run.clone()
                    .all(|index| map.owner(VirtualNode(index)) == shard)
            );
            next = run.end;
        }
        assert_eq!(next, virtual_nodes, "no arc is left over");
    }

    #[test]
    fn small_maps_are_even_and_whole() {
        for virtual_nodes in [1u32, 2, 4, 8, 64, 1024] {
            for shards in 1..=virtual_nodes.min(130) {
                check(virtual_nodes, shards as u16);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn large_maps_are_even_and_whole(log in 10u32..18, shards in 1u16..=1024) {
            check(1 << log, shards);
        }
    }
}
