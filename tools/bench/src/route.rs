//! Which shard of the node a connection goes to, and which keys it asks for.

use crate::ycsb::key::KeyNames;
use armilla::client::blocking::Client;
use armilla::ring::position::Position;
use armilla::ring::shard_map::ShardMap;
use std::net::SocketAddr;

/// What each connection asks its shard for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// Any key, by the port of all shards: the kernel chooses the shard.
    #[default]
    Any,
    /// By the port of one shard, the keys it owns: nothing crosses.
    Own,
    /// By the port of one shard, the keys of the others: everything crosses.
    Other,
}

/// The routing of a run against a node that has said hello.
#[derive(Clone, Debug)]
pub struct Route {
    pub bucket: Vec<u8>,
    keys: KeyNames,
    server: SocketAddr,
    routing: Routing,
    ports: Vec<u16>,
    virtual_nodes: u32,
    map: ShardMap,
}

impl Route {
    /// Asks the node for its shards, if that matters.
    pub fn of(
        server: SocketAddr,
        routing: Routing,
        (keys, bucket): (KeyNames, &[u8]),
    ) -> Result<Route, String> {
        let mut route = Route {
            bucket: bucket.to_vec(),
            keys,
            server,
            routing,
            ports: Vec::new(),
            virtual_nodes: 1,
            map: ShardMap::even(1, 1),
        };
        if routing == Routing::Any {
            return Ok(route);
        }
        let client = Client::connect(&server.to_string());
        let hello = client.and_then(|client| client.hello());
        let hello = hello.map_err(|error| format!("{server} does not say who it is: {error}"))?;
        let (shards, virtual_nodes) = (hello.shard_ports.len(), hello.node.virtual_nodes);
        let fits =
            virtual_nodes.is_power_of_two() && (1..=virtual_nodes as usize).contains(&shards);
        if !fits || (routing == Routing::Other && shards < 2) {
            return Err(format!(
                "--route: {server} has {shards} shard(s); other needs two"
            ));
        }
        route.ports = hello.shard_ports;
        route.virtual_nodes = virtual_nodes;
        route.map = ShardMap::even(virtual_nodes, shards as u16);
        Ok(route)
    }

    /// Where connection `index` goes.
    pub fn server(&self, index: usize) -> SocketAddr {
        let mut server = self.server;
        if let Some(port) = self.ports.get(index % self.ports.len().max(1)) {
            server.set_port(*port);
        }
        server
    }

    /// Whether connection `index` may ask for the key of this number.
    pub fn wants(&self, index: usize, number: u64) -> bool {
        if self.routing == Routing::Any {
            return true;
        }
        let mut key = Vec::new();
        self.keys.write(number, &mut key);
        let position = Position::of(&self.bucket, &key);
        let owner = self.map.owner(position.virtual_node(self.virtual_nodes));
        let own = usize::from(owner.0) == index % self.ports.len();
        own == (self.routing == Routing::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_shards_and_their_keys() {
        let server = SocketAddr::from(([127, 0, 0, 1], 7700));
        let route = |routing| Route {
            bucket: Vec::new(),
            keys: KeyNames::default(),
            server,
            routing,
            ports: vec![7701, 7702],
            virtual_nodes: 1024,
            map: ShardMap::even(1024, 2),
        };
        let (own, other) = (route(Routing::Own), route(Routing::Other));
        assert_eq!([0, 1, 2].map(|c| own.server(c).port()), [7701, 7702, 7701]);
        for number in 0..100 {
            assert_ne!(
                own.wants(0, number),
                own.wants(1, number),
                "one shard owns it"
            );
            assert_eq!(own.wants(0, number), other.wants(1, number));
        }
        let any = Route::of(server, Routing::Any, (KeyNames::default(), b"")).unwrap();
        assert_eq!(any.server(5), server);
        assert!(any.wants(5, 1));
    }
}
