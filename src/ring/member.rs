//! Who stands on the ring.

use super::shard_map::ShardId;
use crate::base::limits;
use std::fmt;
use std::net::SocketAddr;

/// Names one data directory for ever: a random UUID, drawn when it was formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u128);

/// As in `node.toml`: 32 hex digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// What others dial: the base port, which any shard answers.
    pub address: SocketAddr,
    /// How much it should hold, against the weights of the others: 1 to `limits::WEIGHT_MAX`.
    pub weight: u16,
    /// What fails together: a rack, a room, a site. Nodes that name none are of one zone, the empty name.
    pub zone: String,
    pub shards: u16,
}

impl Member {
    /// Where a shard of it listens.
    pub fn shard_address(&self, shard: ShardId) -> SocketAddr {
        assert!(shard.0 < self.shards);
        let mut address = self.address;
        address.set_port(self.address.port() + 1 + shard.0);
        address
    }

    /// Whether each of its facts is within its bounds.
    pub fn is_sound(&self) -> bool {
        let last_port = u32::from(self.address.port()) + u32::from(self.shards);
        (1..=limits::WEIGHT_MAX).contains(&self.weight)
            && (1..=limits::SHARDS_MAX).contains(&usize::from(self.shards))
            && self.address.port() != 0
            && last_port <= u32::from(u16::MAX)
            && !self.address.ip().is_unspecified()
            && is_zone_name(&self.zone)
            // One address has one encoding: what only a single machine understands is left out.
            && match self.address {
                SocketAddr::V4(_) => true,
                SocketAddr::V6(v6) => v6.flowinfo() == 0 && v6.scope_id() == 0,
            }
    }
}

/// Letters, digits, `.`, `_` and `-`; the empty name too.
pub fn is_zone_name(name: &str) -> bool {
    let fits = name.len() <= limits::ZONE_BYTES_MAX;
    fits && name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
