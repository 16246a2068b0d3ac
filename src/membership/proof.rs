//! The proof that a node holds the secret of the cluster it speaks for: SipHash-2-4 with 128 bits of output, keyed with
//! that secret, over what it says of itself. The input is told in `schema/peer.fbs`.
//!
//! It keeps strangers and misdirected nodes out. It does not keep out who can read the network: nothing here is
//! encrypted yet.

use crate::causal::context::ContextKey;
use crate::ring::member::NodeId;
use crate::wire::peer::Kind;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

const DOMAIN: &[u8] = b"armilla peer\0";

/// What a node says of itself to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub kind: Kind,
    pub cluster: u128,
    pub from: NodeId,
    pub to: NodeId,
    pub ring_epoch: u64,
    pub ring_digest: u64,
}

impl Claim {
    pub fn proof(&self, secret: &ContextKey) -> u128 {
        let mut mac = SipHasher24::new_with_key(&secret.0);
        mac.write(DOMAIN);
        mac.write(&[self.kind as u8]);
        for id in [self.cluster, self.from.0, self.to.0] {
            mac.write(&id.to_le_bytes());
        }
        mac.write(&self.ring_epoch.to_le_bytes());
        mac.write(&self.ring_digest.to_le_bytes());
        mac.finish128().as_u128()
    }

    /// Whether `proof` is of this claim.
    pub fn is_proved(&self, secret: &ContextKey, proof: u128) -> bool {
        let differing = self.proof(secret) ^ proof;
        std::hint::black_box(differing) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_claim_and_the_secret_count() {
        let claim = Claim {
            kind: Kind::Hello,
            cluster: 1,
            from: NodeId(2),
            to: NodeId(3),
            ring_epoch: 4,
            ring_digest: 5,
        };
        let secret = ContextKey([7; 16]);
        let proof = claim.proof(&secret);
        assert!(claim.is_proved(&secret, proof));
        assert!(!claim.is_proved(&ContextKey([8; 16]), proof));
        let others = [
            Claim {
                kind: Kind::Welcome,
                ..claim
            },
            Claim {
                cluster: 9,
                ..claim
            },
            Claim {
                from: NodeId(3),
                to: NodeId(2),
                ..claim
            },
            Claim {
                ring_epoch: 5,
                ..claim
            },
            Claim {
                ring_digest: 4,
                ..claim
            },
        ];
        for other in others {
            assert!(!other.is_proved(&secret, proof), "{other:?}");
        }
    }
}
