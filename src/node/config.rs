//! What the operator sets, after flags and defaults are resolved.

use crate::base::limits;
use crate::engine::Sizes;
use crate::membership::token::{Gate, JoinToken};
use crate::replica::identity::Identity;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Options {
    /// The base port P; shard i listens at P + 1 + i. Port 0 lets the system choose all of them.
    pub listen: SocketAddr,
    pub admin: Option<SocketAddr>,
    /// What other nodes dial; `None`: the listen address.
    pub advertise: Option<SocketAddr>,
    /// The base addresses of all nodes of a ring that is to be formed, this one's too; empty: a ring of its own.
    pub join: Vec<SocketAddr>,
    /// What a node must know to be let in, besides the cluster's own token; `None`: that alone.
    pub join_token: Option<JoinToken>,
    pub data: PathBuf,
    /// Bytes that entries, cached values and the buffers of connections may take.
    pub memory_bytes: usize,
    pub value_bytes_max: usize,
    /// Connections of clients to each shard.
    pub connections_max: usize,
    /// Bytes that the data directory may take; `None`: what it has and what is free at start.
    pub disk_bytes: Option<u64>,
    /// Bytes a second that the node reads to find what has rotted; 0: it looks only when it is asked to.
    pub scrub_bytes_per_second: u64,
    /// The defaults, but for tests.
    pub sizes: Sizes,
}

impl Options {
    pub fn shard_address(&self, shard: u16) -> SocketAddr {
        let mut address = self.listen;
        if address.port() != 0 {
            address.set_port(address.port() + 1 + shard);
        }
        address
    }

    /// Whom this node lets in: who knows its token, or, once it is of a cluster, that of the cluster.
    pub fn gate(&self, identity: Option<&Identity>) -> Gate {
        let own = identity.map(|one| JoinToken::of_cluster(one.cluster, &one.keys.current));
        Gate {
            open: self.is_local() && self.join_token.is_none(),
            tokens: own.into_iter().chain(self.join_token.clone()).collect(),
        }
    }

    /// Only this machine reaches this node.
    fn is_local(&self) -> bool {
        let mut own = self.advertise.iter().chain([&self.listen]);
        own.all(|address| address.ip().is_loopback())
    }

    /// This node and those that it is to find are on this machine: nobody else can be one of them.
    pub fn joins_locally(&self) -> bool {
        self.is_local() && self.join.iter().all(|address| address.ip().is_loopback())
    }

    /// Where others find this node.
    pub fn advertised(&self, ports: &Ports) -> SocketAddr {
        let mut address = self.advertise.unwrap_or(ports.base);
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }
}

/// Where a client is served: what was asked for, with the system's choices filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub base: SocketAddr,
    pub shards: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

/// The admin port that belongs to a base port: ten below it.
pub fn admin_address(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    address.set_port(listen.port().saturating_sub(limits::ADMIN_PORT_BELOW));
    address
}
