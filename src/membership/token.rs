//! The join token: what a node must know to be taken into a ring, or to found one with others. Whoever is let in is
//! given the cluster's secret, and reads and writes everything.
//!
//! It never travels. Each side draws a number at random, and proves with both that it knows the token; what is answered
//! is covered by the proof, so that nobody in between can put another ring in its place; and the secret is masked with
//! what only the token and these two numbers give. All of it is BLAKE3, keyed. A token that can be guessed can be
//! guessed by who listens too, hence its least length. Formats: `schema/peer.fbs`.

use crate::base::limits::JOIN_TOKEN_CHARACTERS_MIN;
use crate::causal::context::ContextKey;
use crate::wire::peer::Peer;
use std::fmt;

const OF_A_CLUSTER: &str = "armilla 2026 join token of a cluster";
const KEY: &str = "armilla 2026 join token key";
const PROOF: &[u8] = b"armilla join\0";
const MASK: &[u8] = b"armilla join mask\0";

/// The key that a token's text gives.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken([u8; 32]);

/// Secrets do not reach logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a join token has {min} characters or more, so that nobody guesses it: take what 'openssl rand -hex 16' prints",
    min = JOIN_TOKEN_CHARACTERS_MIN
)]
pub struct TooShort;

/// The text of a cluster's own token: whoever has its secret can make it, and nobody finds the secret from it.
pub fn text_of(cluster: u128, secret: &ContextKey) -> String {
    let material = [&secret.0[..], &cluster.to_le_bytes()].concat();
    let derived = blake3::derive_key(OF_A_CLUSTER, &material);
    let digits = derived[..16].iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

impl JoinToken {
    /// White space around it does not count: files end with a line feed.
    pub fn of(text: &str) -> Result<JoinToken, TooShort> {
        let text = text.trim();
        if text.chars().count() < JOIN_TOKEN_CHARACTERS_MIN {
            return Err(TooShort);
        }
        Ok(JoinToken(blake3::derive_key(KEY, text.as_bytes())))
    }

    pub fn of_cluster(cluster: u128, secret: &ContextKey) -> JoinToken {
        JoinToken::of(&text_of(cluster, secret)).expect("32 digits are enough")
    }

    /// Over all that a Join or a Joined says.
    pub fn proof(&self, peer: &Peer<'_>) -> u128 {
        let mut mac = blake3::Hasher::new_keyed(&self.0);
        mac.update(PROOF).update(&[peer.kind as u8]);
        mac.update(&peer.protocol.to_le_bytes());
        mac.update(&[peer.status]);
        mac.update(&peer.shards.to_le_bytes());
        mac.update(&peer.named.to_le_bytes());
        for number in [peer.cluster, peer.node, peer.nonce, peer.answer_nonce] {
            mac.update(&number.to_le_bytes());
        }
        let texts = [peer.message.as_bytes(), peer.address.as_bytes()];
        for part in texts.into_iter().chain([peer.ring, peer.secret]) {
            mac.update(&(part.len() as u32).to_le_bytes()).update(part);
        }
        let mut proof = [0; 16];
        mac.finalize_xof().fill(&mut proof);
        u128::from_le_bytes(proof)
    }

    pub fn is_proved(&self, peer: &Peer<'_>) -> bool {
        let differing = self.proof(peer) ^ peer.proof;
        // Never zero by chance alone: a message without a proof proves nothing.
        peer.proof != 0 && std::hint::black_box(differing) == 0
    }

    /// The secret, masked or unmasked, under the two numbers of a conversation.
    pub fn masked(&self, (nonce, answer_nonce): (u128, u128), secret: [u8; 16]) -> [u8; 16] {
        let mut mask = [0; 16];
        blake3::Hasher::new_keyed(&self.0)
            .update(MASK)
            .update(&nonce.to_le_bytes())
            .update(&answer_nonce.to_le_bytes())
            .finalize_xof()
            .fill(&mut mask);
        std::array::from_fn(|nth| secret[nth] ^ mask[nth])
    }
}

/// Whom a node lets in.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Each of them lets in.
    pub tokens: Vec<JoinToken>,
    /// It can be reached from its own machine only, and was given no token: there none is needed.
    pub open: bool,
}

/// What is made of a Join.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// It is to prove that it knows a token.
    Challenge,
    /// It is answered; with the token that it knows, if it has one.
    LetIn(Option<&'a JoinToken>),
    Refused(&'static str),
}

impl Gate {
    /// `challenge`: the number that this connection was challenged with, if it was.
    pub fn ask(&self, join: &Peer<'_>, challenge: Option<u128>) -> Asked<'_> {
        if join.nonce == 0 {
            return match self.open {
                true => Asked::LetIn(None),
                false => Asked::Refused(
                    "a join token is needed: start with --join-token-file FILE; for a ring that is there, FILE holds what 'armilla join-token' prints on one of its nodes, and for a new one the same 16 characters or more on all of its nodes",
                ),
            };
        }
        if self.tokens.is_empty() {
            return Asked::Refused(
                "it was started without a join token, and this node with one; start all nodes of a new ring with the same one",
            );
        }
        if join.answer_nonce == 0 {
            return Asked::Challenge;
        }
        let asked = challenge.is_some_and(|challenge| challenge == join.answer_nonce);
        let known = self.tokens.iter().find(|token| token.is_proved(join));
        match known.filter(|_| asked) {
            Some(token) => Asked::LetIn(Some(token)),
            None => Asked::Refused(
                "its join token is another one: take what 'armilla join-token' prints on a node of that ring, or, for a new one, start all nodes with the same one",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::Kind;

    const SECRET: ContextKey = ContextKey([7; 16]);

    fn token(text: &str) -> JoinToken {
        JoinToken::of(text).unwrap()
    }

    fn join(token: &JoinToken) -> Peer<'static> {
        let mut join = Peer {
            kind: Kind::Join,
            protocol: 2,
            node: 3,
            address: "10.0.0.1:7700",
            shards: 2,
            named: 9,
            nonce: 11,
            answer_nonce: 12,
            ..Peer::default()
        };
        join.proof = token.proof(&join);
        join
    }

    #[test]
    fn the_text_of_a_cluster_is_its_own() {
        let text = text_of(1, &SECRET);
        assert_eq!(text, "bc6cef56ef025bcab6bcfd9ac9d220fc");
        assert_ne!(text, text_of(2, &SECRET));
        assert_ne!(text, text_of(1, &ContextKey([8; 16])));
        assert!(token(&format!("{text}\n")) == JoinToken::of_cluster(1, &SECRET));
    }

    #[test]
    fn a_token_that_can_be_guessed_is_none() {
        assert_eq!(JoinToken::of("fifteen letters"), Err(TooShort));
        assert_eq!(
            JoinToken::of(&format!("short{}", " ".repeat(20))),
            Err(TooShort)
        );
        assert!(JoinToken::of("sixteen letters!").is_ok());
        assert!(!format!("{:?}", token("sixteen letters!")).contains("six"));
    }

    #[test]
    fn each_part_of_a_join_and_the_token_count() {
        let (ours, other) = (token("sixteen letters!"), token("sixteen letters?"));
        let whole = join(&ours);
        assert!(ours.is_proved(&whole) && !other.is_proved(&whole));
        let spoilt = [
            Peer {
                kind: Kind::Joined,
                ..whole.clone()
            },
            Peer {
                protocol: 3,
                ..whole.clone()
            },
            Peer {
                status: 1,
                ..whole.clone()
            },
            Peer {
                shards: 3,
                ..whole.clone()
            },
            Peer {
                named: 8,
                ..whole.clone()
            },
            Peer {
                cluster: 1,
                ..whole.clone()
            },
            Peer {
                node: 4,
                ..whole.clone()
            },
            Peer {
                nonce: 13,
                ..whole.clone()
            },
            Peer {
                answer_nonce: 13,
                ..whole.clone()
            },
            Peer {
                message: "m",
                ..whole.clone()
            },
            Peer {
                address: "10.0.0.2:7700",
                ..whole.clone()
            },
            Peer {
                ring: b"r",
                ..whole.clone()
            },
            Peer {
                secret: b"s",
                ..whole.clone()
            },
            Peer {
                proof: 0,
                ..whole.clone()
            },
        ];
        for peer in spoilt {
            assert!(!ours.is_proved(&peer), "{peer:?}");
        }
    }

    #[test]
    fn a_secret_is_masked_by_token_and_both_numbers() {
        let (ours, other) = (token("sixteen letters!"), token("sixteen letters?"));
        let masked = ours.masked((1, 2), SECRET.0);
        assert_ne!(masked, SECRET.0);
        assert_eq!(ours.masked((1, 2), masked), SECRET.0);
        for wrong in [
            ours.masked((2, 1), masked),
            ours.masked((1, 3), masked),
            other.masked((1, 2), masked),
        ] {
            assert_ne!(wrong, SECRET.0);
        }
    }

    #[test]
    fn only_who_proves_a_token_now_is_let_in() {
        let (ours, other) = (token("sixteen letters!"), token("sixteen letters?"));
        let gate = Gate {
            tokens: vec![JoinToken::of_cluster(1, &SECRET), ours.clone()],
            open: false,
        };
        let none = Peer {
            nonce: 0,
            proof: 0,
            answer_nonce: 0,
            ..join(&ours)
        };
        assert!(matches!(gate.ask(&none, None), Asked::Refused(_)));
        let first = Peer {
            proof: 0,
            answer_nonce: 0,
            ..join(&ours)
        };
        assert_eq!(gate.ask(&first, None), Asked::Challenge);
        assert_eq!(gate.ask(&join(&ours), Some(12)), Asked::LetIn(Some(&ours)));
        // It is of an earlier conversation, or of none; or another token's.
        for challenge in [None, Some(13)] {
            let asked = gate.ask(&join(&ours), challenge);
            assert!(matches!(asked, Asked::Refused(_)));
        }
        assert!(matches!(
            gate.ask(&join(&other), Some(12)),
            Asked::Refused(_)
        ));

        let open = Gate {
            tokens: Vec::new(),
            open: true,
        };
        assert_eq!(open.ask(&none, None), Asked::LetIn(None));
        assert!(matches!(open.ask(&first, None), Asked::Refused(_)));
    }
}
