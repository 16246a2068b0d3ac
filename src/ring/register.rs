//! What a full member keeps for the agreement on the next ring: the register of single-decree Paxos (Lamport, "Paxos
//! Made Simple", 2001), one for each epoch, decided by a majority of the full members of the ring before it.
//!
//! 1. What it promised or accepted is on the disk before it is told.
//! 2. A ring that a majority accepted under one ballot is the only one that a later ballot can propose.
//! 3. When the next ring is known the register is of the one behind it; nothing is left of the old one.

use super::member::NodeId;
use super::owners::RingEpoch;
use crate::base::limits::RING_BYTES_MAX;

/// A try to decide: later rounds win, the node breaks ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    pub round: u64,
    /// The id of the node that tries; 0 with round 0 is no ballot, which is below all others.
    pub node: u128,
}

impl Ballot {
    pub fn of(round: u64, node: NodeId) -> Ballot {
        Ballot {
            round,
            node: node.0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The epoch that is to be decided.
    epoch: RingEpoch,
    promised: Ballot,
    /// The bytes of a ring, and under which ballot it was accepted.
    accepted: Option<(Ballot, Vec<u8>)>,
}

/// What a register answers. Whatever is not refused is told once the register is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// To a prepare: no lower ballot is taken any more; this was accepted before.
    Promised(Option<(Ballot, Vec<u8>)>),
    Accepted,
    /// A higher ballot was promised.
    Refused(Ballot),
    /// The register is of another epoch: whoever asks knows an older ring, or a newer one.
    OtherEpoch,
}

/// The layout of the file: format u8 = 1 | epoch u64 | promised round u64, node u128 | 0 or 1 u8; if 1: accepted round
/// u64, node u128 | the ring, the rest. Numbers are little-endian.
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 8 + 16 + 1;

impl Register {
    /// Nothing is promised for this epoch.
    pub fn new(epoch: RingEpoch) -> Register {
        Register {
            epoch,
            promised: Ballot::default(),
            accepted: None,
        }
    }

    pub fn epoch(&self) -> RingEpoch {
        self.epoch
    }

    /// A round above all that this register has seen.
    pub fn next_round(&self) -> u64 {
        self.promised.round + 1
    }

    pub fn on_prepare(&mut self, epoch: RingEpoch, ballot: Ballot) -> Vote {
        if epoch != self.epoch {
            return Vote::OtherEpoch;
        }
        if ballot < self.promised {
            return Vote::Refused(self.promised);
        }
        self.promised = ballot;
        Vote::Promised(self.accepted.clone())
    }

    pub fn on_accept(&mut self, epoch: RingEpoch, ballot: Ballot, ring: &[u8]) -> Vote {
        if epoch != self.epoch {
            return Vote::OtherEpoch;
        }
        if ballot < self.promised {
            return Vote::Refused(self.promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, ring.to_vec()));
        Vote::Accepted
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        let ballot = |ballot: Ballot, out: &mut Vec<u8>| {
            out.extend_from_slice(&ballot.round.to_le_bytes());
            out.extend_from_slice(&ballot.node.to_le_bytes());
        };
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        ballot(self.promised, &mut out);
        out.push(self.accepted.is_some().into());
        if let Some((under, ring)) = &self.accepted {
            ballot(*under, &mut out);
            out.extend_from_slice(ring);
        }
        out
    }

    /// `None` for anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Option<Register> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| Some(u64::from_le_bytes(*head[at..].first_chunk()?));
        let promised = Ballot {
            round: number(9)?,
            node: u128::from_le_bytes(*head[17..].first_chunk()?),
        };
        let accepted = match (head[HEAD_BYTES - 1], rest) {
            (0, []) => None,
            (1, rest) => {
                let (round, rest) = rest.split_first_chunk()?;
                let (node, ring) = rest.split_first_chunk()?;
                let under = Ballot {
                    round: u64::from_le_bytes(*round),
                    node: u128::from_le_bytes(*node),
                };
                (ring.len() <= RING_BYTES_MAX).then_some(())?;
                Some((under, ring.to_vec()))
            }
            _ => return None,
        };
        (head[0] == FORMAT).then_some(Register {
            epoch: RingEpoch(number(1)?),
            promised,
            accepted,
        })
    }
}

/// One try to decide the ring of an epoch: counts promises, then acceptances.
#[derive(Debug)]
pub struct Proposal {
    pub epoch: RingEpoch,
    pub ballot: Ballot,
    /// The bytes of the ring that is wished for, or of one that may have been decided already.
    pub ring: Vec<u8>,
    under: Ballot,
    members: usize,
    promises: usize,
    acceptances: usize,
    /// Another ballot was in the way: the next try begins above it.
    pub beaten_by: Option<Ballot>,
}

impl Proposal {
    /// `members`: how many decide.
    pub fn new(epoch: RingEpoch, ballot: Ballot, ring: Vec<u8>, members: usize) -> Proposal {
        assert!(members >= 1);
        Proposal {
            epoch,
            ballot,
            ring,
            under: Ballot::default(),
            members,
            promises: 0,
            acceptances: 0,
            beaten_by: None,
        }
    }

    fn majority(&self) -> usize {
        self.members / 2 + 1
    }

    /// Each member votes once in each phase.
    pub fn on_vote(&mut self, vote: Vote) {
        match vote {
            Vote::Promised(accepted) => {
                self.promises += 1;
                if let Some((under, ring)) = accepted
                    && under >= self.under
                {
                    self.under = under;
                    self.ring = ring;
                }
            }
            Vote::Accepted => self.acceptances += 1,
            Vote::Refused(ballot) => self.beaten_by = self.beaten_by.max(Some(ballot)),
            Vote::OtherEpoch => {}
        }
    }

    pub fn is_promised(&self) -> bool {
        self.promises >= self.majority()
    }

    /// The ring is decided, for ever.
    pub fn is_decided(&self) -> bool {
        self.acceptances >= self.majority()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const NEXT: RingEpoch = RingEpoch(2);

    #[test]
    fn a_register_is_read_as_it_was_written_and_nothing_else_is() {
        let mut register = Register::new(NEXT);
        let empty = register.encode();
        assert_eq!(Register::decode(&empty), Some(register.clone()));
        register.on_accept(NEXT, Ballot::of(3, NodeId(7)), b"ring");
        let bytes = register.encode();
        assert_eq!(Register::decode(&bytes), Some(register));
        for cut in 0..HEAD_BYTES + 24 {
            assert_eq!(Register::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Register::decode(&[&empty[..], &[0]].concat()), None);
    }

    #[test]
    fn another_epoch_is_nobody_s_business() {
        let mut register = Register::new(NEXT);
        let ballot = Ballot::of(1, NodeId(1));
        assert_eq!(register.on_prepare(RingEpoch(3), ballot), Vote::OtherEpoch);
        assert_eq!(
            register.on_accept(RingEpoch(1), ballot, b"x"),
            Vote::OtherEpoch
        );
        assert_eq!(register, Register::new(NEXT));
    }

    /// Proposers that are cut short anywhere, messages that are lost, registers that restart from their disk: whatever
    /// two of them see decided is one ring.
    #[test]
    fn two_rings_of_one_epoch_are_never_decided() {
        let mut decided_runs = 0;
        for seed in 0..3_000 {
            let mut rng = Rng::stream(seed, "paxos", 0);
            let members = 1 + rng.below(5) as usize;
            let mut registers = vec![Register::new(NEXT); members];
            let mut proposals: Vec<Proposal> = Vec::new();
            let mut decided: Option<Vec<u8>> = None;
            for _ in 0..30 {
                if proposals.len() < 4 && rng.chance(0.4) {
                    let node = NodeId(u128::from(rng.below(3)));
                    let wished = vec![proposals.len() as u8];
                    let ballot = Ballot::of(1 + rng.below(6), node);
                    // A node never uses a ballot twice.
                    if proposals.iter().all(|p| p.ballot != ballot) {
                        proposals.push(Proposal::new(NEXT, ballot, wished, members));
                    }
                }
                for proposal in &mut proposals {
                    if proposal.promises == 0 {
                        for register in &mut registers {
                            if rng.chance(0.6) {
                                proposal.on_vote(register.on_prepare(NEXT, proposal.ballot));
                            }
                        }
                    } else if proposal.is_promised() && proposal.acceptances == 0 {
                        for register in &mut registers {
                            if rng.chance(0.6) {
                                let ring = proposal.ring.clone();
                                let vote = register.on_accept(NEXT, proposal.ballot, &ring);
                                proposal.on_vote(vote);
                            }
                        }
                    }
                    if proposal.is_decided() {
                        let ring = decided.get_or_insert_with(|| proposal.ring.clone());
                        assert_eq!(*ring, proposal.ring, "seed {seed}");
                    }
                }
                for register in &mut registers {
                    if rng.chance(0.1) {
                        *register = Register::decode(&register.encode()).unwrap();
                    }
                }
            }
            decided_runs += usize::from(decided.is_some());
        }
        assert!(decided_runs > 1_000, "{decided_runs} runs decided anything");
    }
}
