//! Which connection a key's requests go through. Pure.

use super::answer::Hello;
use crate::base::limits::VALUE_BYTES_MAX;
use crate::ring::position::Position;
use crate::ring::shard_map::ShardMap;

/// What a node's hello says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub cluster: u128,
    pub node: u128,
    /// Bytes of the largest value that it takes.
    pub value_bytes_max: usize,
    pub shard_ports: Vec<u16>,
    virtual_nodes: u32,
    /// `None`: every request goes to the port of all shards.
    map: Option<ShardMap>,
    /// Connections to the port of all shards.
    shared: usize,
}

/// One of the connections that a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The nth to the port of all shards.
    Shared(usize),
    Shard(usize),
}

impl Route {
    /// `connections_max`: of all lanes. A hello that makes no sense is of a node that is asked through its one port.
    pub(super) fn of(hello: &Hello, connections_max: usize, shard_ports: bool) -> Route {
        let (node, shards) = (&hello.node, hello.shard_ports.len());
        let sane = node.virtual_nodes.is_power_of_two()
            && (1..=node.virtual_nodes as usize).contains(&shards)
            && u16::try_from(shards).is_ok();
        // One connection for what has no key, and where a shard's port cannot be reached. A single shard needs no
        // other.
        let straight = sane && shard_ports && shards > 1 && shards < connections_max;
        let map = straight.then(|| ShardMap::even(node.virtual_nodes, shards as u16));
        let shared = match straight || shards < 2 {
            true => 1,
            false => shards.min(connections_max),
        };
        let value_bytes_max = match node.value_bytes_max as usize {
            0 => VALUE_BYTES_MAX,
            bytes => bytes,
        };
        Route {
            cluster: node.cluster,
            node: node.node,
            value_bytes_max,
            shard_ports: hello.shard_ports.clone(),
            virtual_nodes: node.virtual_nodes,
            map,
            shared: shared.max(1),
        }
    }

    pub(super) fn lane(&self, position: Position) -> Lane {
        match &self.map {
            Some(map) => {
                let owner = map.owner(position.virtual_node(self.virtual_nodes));
                Lane::Shard(usize::from(owner.0))
            }
            None => Lane::Shared(((u128::from(position.0) * self.shared as u128) >> 64) as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::HelloReply;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn hello(virtual_nodes: u32, shards: usize) -> Hello {
        Hello {
            node: HelloReply {
                virtual_nodes,
                ..HelloReply::default()
            },
            shard_ports: (0..shards as u16).collect(),
        }
    }

    proptest! {
        /// Whatever a node says, there are never more lanes than are allowed.
        #[test]
        fn lanes_are_bounded(
            virtual_nodes in prop_oneof![any::<u32>(), (0u32..31).prop_map(|log| 1 << log)],
            shards in 0usize..100,
            connections_max in 0usize..40,
            shard_ports: bool,
            positions in prop::collection::vec(any::<u64>(), 1..200),
        ) {
            let route = Route::of(&hello(virtual_nodes, shards), connections_max, shard_ports);
            let mut lanes = BTreeSet::from([(false, 0)]);
            for position in positions {
                lanes.insert(match route.lane(Position(position)) {
                    Lane::Shared(nth) => (false, nth),
                    Lane::Shard(nth) => {
                        prop_assert!(shard_ports && nth < shards);
                        (true, nth)
                    }
                });
            }
            prop_assert!(lanes.len() <= connections_max.max(1));
        }
    }

    #[test]
    fn a_key_goes_to_its_owner_if_there_are_connections_for_all() {
        let at = |nth: u64| Position(nth << 62);
        let route = Route::of(&hello(1024, 4), 5, true);
        let lanes: Vec<Lane> = (0..4).map(|nth| route.lane(at(nth))).collect();
        assert_eq!(lanes, (0..4).map(Lane::Shard).collect::<Vec<_>>());
        let route = Route::of(&hello(1024, 4), 4, true);
        assert_eq!(route.lane(at(3)), Lane::Shared(3));
        let alone = Route::of(&hello(1024, 1), 16, true);
        assert_eq!(alone.lane(at(3)), Lane::Shared(0));
    }
}
