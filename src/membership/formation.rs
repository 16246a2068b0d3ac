//! How nodes with empty directories become a cluster: each is told the addresses of all, and asks the others until it
//! has a ring.
//!
//! The node at the lowest address forms the ring, once each of the others has said that it has none and was told the
//! same addresses. It writes it down before it says so; the others ask for it, and write it down in turn. So there is
//! one ring or none, whoever ends in between: a ring that anybody has heard of is on the disk of who formed it.
//! Nobody forms one who has met a cluster.

use crate::base::checksum::xxh3_64;
use crate::base::limits;
use crate::base::planted::planted;
use crate::ring::claim;
use crate::ring::member::{Member, NodeId};
use crate::ring::owners::{Ring, Unsound};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A node without a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    /// What others dial.
    pub address: SocketAddr,
    pub shards: u16,
}

/// What a named node says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It has no ring; the digest of the addresses that it was told.
    Unformed { candidate: Candidate, named: u64 },
    /// It has one, and will have us in the next.
    Wait,
    /// It has one, with us in it.
    Formed { ring: Box<Ring>, secret: [u8; 16] },
    /// It will not have us, and says why.
    Refused(String),
    /// It does not know the token that we know.
    NotProved,
}

/// What to do after an answer.
#[derive(Debug)]
pub enum Next {
    Wait,
    /// All are there, and it is upon us: form a ring of these.
    Form(Vec<Member>),
    /// Take this ring.
    Adopt(Box<Ring>, [u8; 16]),
    Refuse(FormationError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormationError {
    #[error(
        "--join does not name this node's own address {own}, and {address} has no ring to join; to form a new ring name all of its nodes, this one too, as the others dial them (--advertise says how)"
    )]
    NotNamed {
        own: SocketAddr,
        address: SocketAddr,
    },
    #[error("--join names {count} node(s); a ring has 1 to {max}", max = limits::MEMBERS_MAX)]
    Count { count: usize },
    #[error(
        "{address} was started with other addresses in --join than this node; start all nodes of a new ring with the same ones"
    )]
    OtherNames { address: SocketAddr },
    #[error(
        "{address} says that it is {says}; each node must be named as it names itself (--advertise)"
    )]
    OtherAddress {
        address: SocketAddr,
        says: SocketAddr,
    },
    #[error("{address} and {other} are one node: two names lead to it")]
    SameNode {
        address: SocketAddr,
        other: SocketAddr,
    },
    #[error("{address} does not take this node in: {why}")]
    Refused { address: SocketAddr, why: String },
    #[error(
        "--join names nodes beyond this machine, so each must prove that it may be one: pass --join-token-file FILE; for a new ring FILE holds the same 16 characters or more on all of its nodes (openssl rand -hex 16), and for a ring that is there what 'armilla join-token' prints on one of its nodes"
    )]
    NoToken,
    #[error(
        "{address} answers without knowing this node's join token: it is no node of the ring that the token is of, or an older one"
    )]
    NotProved { address: SocketAddr },
    #[error(
        "{address} sent a ring that does not hold this node as it is, with its address and its number of shards; start it with --cores as at first, or with an empty directory"
    )]
    NotInRing { address: SocketAddr },
    #[error(
        "--listen {listen} does not say where the other nodes find this one; pass --advertise HOST:PORT, as they dial it"
    )]
    NoAddress { listen: SocketAddr },
    #[error("these nodes make no ring: {0}")]
    Unsound(#[from] Unsound),
}

/// Of one node, from its start until it has a ring.
#[derive(Debug)]
pub struct Formation {
    own: Candidate,
    /// Ascending.
    named: Vec<SocketAddr>,
    met: BTreeMap<SocketAddr, Candidate>,
    /// Somebody has a ring: none is formed any more.
    met_ring: bool,
}

impl Formation {
    pub fn new(own: Candidate, named: &[SocketAddr]) -> Result<Formation, FormationError> {
        let named = sorted(named);
        if !(1..=limits::MEMBERS_MAX).contains(&named.len()) {
            return Err(FormationError::Count { count: named.len() });
        }
        Ok(Formation {
            own,
            named,
            met: BTreeMap::new(),
            met_ring: false,
        })
    }

    pub fn own(&self) -> Candidate {
        self.own
    }

    pub fn others(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.named
            .iter()
            .copied()
            .filter(|&address| address != self.own.address)
    }

    /// Those that have not answered yet.
    pub fn missing(&self) -> Vec<SocketAddr> {
        let missing = |address: &SocketAddr| !self.met.contains_key(address);
        self.others().filter(missing).collect()
    }

    pub fn named_digest(&self) -> u64 {
        named_digest(&self.named)
    }

    fn is_founder(&self) -> bool {
        self.named[0] == self.own.address
    }

    /// Nobody has been asked yet: a ring of one needs nobody.
    pub fn begin(&self) -> Next {
        self.next()
    }

    /// The node at a named address could not be asked: what it said before may be true no more.
    pub fn on_silence(&mut self, address: SocketAddr) {
        self.met.remove(&address);
    }

    /// The node at a named address has answered.
    pub fn on_answer(&mut self, address: SocketAddr, answer: Answer) -> Next {
        let (candidate, named) = match answer {
            Answer::Refused(why) => {
                return Next::Refuse(FormationError::Refused { address, why });
            }
            Answer::NotProved => return Next::Refuse(FormationError::NotProved { address }),
            Answer::Wait => {
                self.met_ring = true;
                return Next::Wait;
            }
            Answer::Formed { ring, secret } => {
                let own = ring.index_of(self.own.node);
                let held = own.is_some_and(|own| {
                    let member = ring.member(own);
                    member.address == self.own.address && member.shards == self.own.shards
                });
                return match held {
                    true => Next::Adopt(ring, secret),
                    false => Next::Refuse(FormationError::NotInRing { address }),
                };
            }
            Answer::Unformed { candidate, named } => (candidate, named),
        };
        if !self.named.contains(&self.own.address) {
            let own = self.own.address;
            return Next::Refuse(FormationError::NotNamed { own, address });
        }
        if candidate.address != address {
            let says = candidate.address;
            return Next::Refuse(FormationError::OtherAddress { address, says });
        }
        if named != self.named_digest() {
            return Next::Refuse(FormationError::OtherNames { address });
        }
        let known = self.met.values().chain([&self.own]);
        let twin = known
            .filter(|known| known.address != address)
            .find(|known| known.node == candidate.node);
        if let Some(twin) = twin {
            let other = twin.address;
            return Next::Refuse(FormationError::SameNode { address, other });
        }
        self.met.insert(address, candidate);
        self.next()
    }

    fn next(&self) -> Next {
        let forms = self.is_founder() || planted!(TwoFounders);
        if !forms || self.met_ring || !self.missing().is_empty() {
            return Next::Wait;
        }
        let candidates = self.met.values().chain([&self.own]);
        let mut members: Vec<Member> = candidates
            .map(|candidate| Member {
                id: candidate.node,
                address: candidate.address,
                weight: limits::WEIGHT_DEFAULT,
                zone: String::new(),
                shards: candidate.shards,
            })
            .collect();
        members.sort_by_key(|member| member.id);
        Next::Form(members)
    }
}

/// The first ring of a cluster of these members.
pub fn form(cluster: u128, members: Vec<Member>) -> Result<Ring, FormationError> {
    let virtual_nodes = limits::VIRTUAL_NODES_DEFAULT;
    let ring = claim::form(cluster, virtual_nodes, limits::REPLICAS_DEFAULT, members)?;
    Ok(ring)
}

/// What a node with a ring makes of one that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in the ring, and may have it.
    Known,
    /// It may be taken in.
    New,
    /// It stands where that one was to be filled, and never was: it may be taken in instead.
    InPlaceOf(NodeId),
    Refused(String),
}

pub fn admit(ring: &Ring, asker: &Candidate) -> Admission {
    if let Some(index) = ring.index_of(asker.node) {
        let known = ring.member(index).address;
        return match known == asker.address {
            true => Admission::Known,
            false => Admission::Refused(format!(
                "the ring knows it at {known}, and it says {}; start it with --listen or --advertise {known}",
                asker.address
            )),
        };
    }
    if ring.is_banned(asker.node) {
        return Admission::Refused("it was taken out of this ring for good".into());
    }
    // A write needs its votes too, once it is in: one that nobody finds would stop them all.
    let is_local = |address: SocketAddr| address.ip().is_loopback();
    let apart = ring
        .members()
        .iter()
        .find(|m| is_local(m.address) != is_local(asker.address));
    if let Some(member) = apart {
        return Admission::Refused(format!(
            "the ring has a node at {}, and this one says that others find it at {}: they would not find each other; start \
             the one whose address begins with 127 or is [::1] with --advertise HOST:PORT, as the others dial it",
            member.address, asker.address
        ));
    }
    let known = ring.members().iter().find(|m| m.address == asker.address);
    match known {
        None => Admission::New,
        Some(member) if ring.is_filling(member.id) => Admission::InPlaceOf(member.id),
        Some(member) => Admission::Refused(format!(
            "the ring holds {} as node {}, and this one is {}: its data directory is a new one; start it on the old \
             directory (a lost one cannot be replaced yet)",
            member.address, member.id, asker.node
        )),
    }
}

fn sorted(named: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut named = named.to_vec();
    named.sort();
    named.dedup();
    named
}

/// Whoever was told the same addresses has the same one.
pub fn named_digest(named: &[SocketAddr]) -> u64 {
    let lines: String = sorted(named).iter().map(|a| format!("{a}\n")).collect();
    xxh3_64(lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7700))
    }

    fn candidate(last: u8) -> Candidate {
        Candidate {
            node: NodeId(100 - u128::from(last)),
            address: address(last),
            shards: 2,
        }
    }

    const NAMED: [u8; 3] = [2, 1, 3];

    fn formation(last: u8) -> Formation {
        Formation::new(candidate(last), &NAMED.map(address)).unwrap()
    }

    fn unformed(last: u8) -> Answer {
        let named = named_digest(&NAMED.map(address));
        Answer::Unformed {
            candidate: candidate(last),
            named,
        }
    }

    #[test]
    fn the_lowest_address_forms_when_all_have_said_that_they_have_no_ring() {
        let mut first = formation(1);
        assert!(matches!(first.begin(), Next::Wait));
        assert!(matches!(
            first.on_answer(address(3), unformed(3)),
            Next::Wait
        ));
        assert_eq!(first.missing(), [address(2)]);
        // What it said a while ago does not count once it is gone.
        first.on_silence(address(3));
        assert!(matches!(
            first.on_answer(address(2), unformed(2)),
            Next::Wait
        ));
        let Next::Form(members) = first.on_answer(address(3), unformed(3)) else {
            panic!("all three are there")
        };
        let ring = form(9, members).unwrap();
        assert_eq!(ring.members().len(), 3);

        let mut third = formation(3);
        assert!(matches!(
            third.on_answer(address(1), unformed(1)),
            Next::Wait
        ));
        assert!(
            matches!(third.on_answer(address(2), unformed(2)), Next::Wait),
            "it is not the lowest"
        );
        assert_eq!(admit(&ring, &candidate(3)), Admission::Known);
        let formed = Answer::Formed {
            ring: Box::new(ring.clone()),
            secret: [1; 16],
        };
        assert!(matches!(
            third.on_answer(address(1), formed),
            Next::Adopt(_, [1, ..])
        ));
    }

    #[test]
    fn who_has_met_a_ring_waits_for_it_and_forms_none() {
        let mut first = formation(1);
        assert!(matches!(
            first.on_answer(address(2), unformed(2)),
            Next::Wait
        ));
        assert!(matches!(
            first.on_answer(address(3), Answer::Wait),
            Next::Wait
        ));
        assert!(matches!(
            first.on_answer(address(3), unformed(3)),
            Next::Wait
        ));
    }

    #[test]
    fn a_ring_of_one_is_formed_at_once() {
        let one = Formation::new(candidate(1), &[address(1)]).unwrap();
        let Next::Form(members) = one.begin() else {
            panic!("nobody else is named")
        };
        assert_eq!(members.len(), 1);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let refused = |next: Next| match next {
            Next::Refuse(error) => error,
            other => panic!("{other:?}"),
        };
        let mut stranger = Formation::new(candidate(4), &NAMED.map(address)).unwrap();
        assert_eq!(
            refused(stranger.on_answer(address(1), unformed(1))),
            FormationError::NotNamed {
                own: address(4),
                address: address(1)
            }
        );
        let mut first = formation(1);
        let other_names = Answer::Unformed {
            candidate: candidate(2),
            named: 5,
        };
        assert_eq!(
            refused(first.on_answer(address(2), other_names)),
            FormationError::OtherNames {
                address: address(2)
            }
        );
        assert_eq!(
            refused(first.on_answer(address(3), unformed(2))),
            FormationError::OtherAddress {
                address: address(3),
                says: address(2)
            }
        );
        let twin = Answer::Unformed {
            candidate: Candidate {
                node: candidate(1).node,
                ..candidate(2)
            },
            named: first.named_digest(),
        };
        assert!(matches!(
            refused(first.on_answer(address(2), twin)),
            FormationError::SameNode { .. }
        ));
        let elsewhere = Answer::Refused("no".into());
        assert!(matches!(
            refused(first.on_answer(address(2), elsewhere)),
            FormationError::Refused { .. }
        ));
    }

    #[test]
    fn a_formed_ring_takes_its_own_nodes_only_and_says_why_not() {
        let members = [1, 2, 3].map(|last| Member {
            id: candidate(last).node,
            address: address(last),
            weight: 100,
            zone: String::new(),
            shards: 2,
        });
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.id);
        let ring = form(9, members).unwrap();
        let renewed = Candidate {
            node: NodeId(1),
            ..candidate(2)
        };
        let why = |asker: &Candidate| match admit(&ring, asker) {
            Admission::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&renewed).contains("new one"));
        let moved = Candidate {
            address: address(7),
            ..candidate(2)
        };
        assert!(why(&moved).contains("--advertise"));
        assert_eq!(admit(&ring, &candidate(8)), Admission::New);
        let beyond = Candidate {
            address: SocketAddr::from(([10, 0, 0, 8], 7700)),
            ..candidate(8)
        };
        assert!(why(&beyond).contains("--advertise"));
        let mut value = ring.value().clone();
        value.filling = vec![candidate(2).node];
        let filling = Ring::new(value).unwrap();
        assert_eq!(
            admit(&filling, &renewed),
            Admission::InPlaceOf(candidate(2).node)
        );
        let mut lost = Formation::new(renewed, &NAMED.map(address)).unwrap();
        let formed = Answer::Formed {
            ring: Box::new(ring),
            secret: [0; 16],
        };
        assert!(matches!(
            lost.on_answer(address(1), formed),
            Next::Refuse(FormationError::NotInRing { .. })
        ));
    }
}
