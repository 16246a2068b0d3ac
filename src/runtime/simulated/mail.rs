//! Mail between the processes of one machine that stand for the shards of one node.
//!
//! As in the real backend: a queue for each ordered pair, one doorbell a shard with the flag `rung`, which brings the
//! receiver to look after a delay. A shard that takes its events for another reason looks too. How much of what is
//! there a look sees is drawn.

use super::process::Process;
use super::world::{Happening, MachineId, ProcessId, State};
use crate::base::planted::planted;
use crate::base::rng::Rng;
use crate::base::units::Nanos;
use crate::runtime::mailbox::{AskRefused, Ledger, Letter, Ticket};
use crate::runtime::net::Event;
use std::collections::VecDeque;

/// The most microseconds from the ringing of a bell to the look.
const RING_MICROS: u64 = 60;

/// One set of shards that write to each other.
pub(super) struct Office {
    members: Vec<Member>,
    draws: Rng,
}

struct Member {
    process: Option<ProcessId>,
    ended: bool,
    rung: bool,
    ledger: Ledger,
    /// What each other shard has sent it.
    queues: Vec<VecDeque<Letter>>,
}

/// Where a process sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    office: usize,
    shard: u16,
}

/// The place of a shard that does not run yet.
pub struct Post {
    seat: Seat,
}

impl State {
    pub(super) fn open_office(
        &mut self,
        machine: MachineId,
        shards: u16,
        credits: u32,
    ) -> Vec<Post> {
        let office = self.offices.len();
        let members = (0..shards).map(|_| Member {
            process: None,
            ended: false,
            rung: true,
            ledger: Ledger::new(shards, credits),
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
        });
        self.offices.push(Office {
            members: members.collect(),
            draws: Rng::stream(self.seed, "mail", (machine.0 as u64) << 32 | office as u64),
        });
        let seat = |shard| Post {
            seat: Seat { office, shard },
        };
        (0..shards).map(seat).collect()
    }

    fn member(&mut self, seat: Seat) -> &mut Member {
        &mut self.offices[seat.office].members[usize::from(seat.shard)]
    }

    fn ring(&mut self, seat: Seat) {
        if std::mem::replace(&mut self.member(seat).rung, true) || planted!(DoorbellLost) {
            return;
        }
        self.look_soon(seat);
    }

    fn look_soon(&mut self, seat: Seat) {
        let nanos = self.offices[seat.office].draws.below(RING_MICROS * 1_000);
        self.after(
            std::time::Duration::from_nanos(nanos),
            Happening::Mail(seat),
        );
    }

    fn post_letter(&mut self, from: u16, to: Seat, letter: Letter) {
        let member = self.member(to);
        if member.ended {
            return;
        }
        member.queues[usize::from(from)].push_back(letter);
        self.ring(to);
    }

    /// The shard looks into its queues: some of what is there becomes events, in the order of each queue.
    pub(super) fn mail_looked(&mut self, seat: Seat) {
        let Some(process) = self.member(seat).process.filter(|&p| self.alive(p)) else {
            return;
        };
        self.member(seat).rung = false;
        let mut left = false;
        for from in 0..self.offices[seat.office].members.len() {
            let ended = self.offices[seat.office].members[from].ended;
            let there = self.member(seat).queues[from].len() as u64;
            let taken = match there {
                0 => 0,
                there => 1 + self.offices[seat.office].draws.below(there),
            };
            for _ in 0..taken {
                let event = self.member(seat).take(from);
                self.push_event(process, event);
            }
            left |= taken < there;
            let shard = from as u16;
            if ended && taken == there && self.member(seat).ledger.on_ended(shard) {
                self.push_event(process, Event::ShardEnded { shard });
            }
        }
        if left {
            self.member(seat).rung = true;
            self.look_soon(seat);
        }
    }

    pub(super) fn mail_process_ended(&mut self, process: ProcessId) {
        let Some(seat) = self.process(process).seat else {
            return;
        };
        self.member(seat).ended = true;
        for shard in 0..self.offices[seat.office].members.len() as u16 {
            self.ring(Seat { shard, ..seat });
        }
    }
}

impl Member {
    fn take(&mut self, from: usize) -> Event {
        let shard = from as u16;
        match self.queues[from].pop_front().expect("it was counted") {
            Letter::Ask {
                tag,
                deadline,
                bytes,
            } => {
                self.ledger.on_asked(shard);
                Event::Asked {
                    ticket: Ticket { shard, tag },
                    deadline,
                    bytes,
                }
            }
            Letter::Answer { tag, bytes } => {
                self.ledger.on_answered(shard);
                Event::Answered { tag, bytes }
            }
        }
    }
}

impl Process {
    pub fn mailbox(&self, post: Post) -> Mailbox {
        let seat = post.seat;
        let shards = self.world.with(|state| {
            if state.alive(self.id) {
                let member = state.member(seat);
                assert!(member.process.is_none(), "a place is taken once");
                member.process = Some(self.id);
                state.process(self.id).seat = Some(seat);
                // What was written to it before.
                state.look_soon(seat);
            }
            state.offices[seat.office].members.len() as u16
        });
        Mailbox {
            process: self.clone(),
            seat,
            shards,
        }
    }
}

/// The mailbox of one process.
#[derive(Clone)]
pub struct Mailbox {
    process: Process,
    seat: Seat,
    shards: u16,
}

impl Mailbox {
    pub fn shard(&self) -> u16 {
        self.seat.shard
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn ask(
        &self,
        shard: u16,
        tag: u64,
        deadline: Nanos,
        bytes: &[u8],
    ) -> Result<(), AskRefused> {
        let seat = self.seat;
        assert!(shard != seat.shard, "a shard does not write to itself");
        let asked = self.process.live(|state| {
            state.member(seat).ledger.ask(shard)?;
            let letter = Letter::Ask {
                tag,
                deadline,
                bytes: bytes.into(),
            };
            state.post_letter(seat.shard, Seat { shard, ..seat }, letter);
            Ok(())
        });
        asked.unwrap_or(Ok(()))
    }

    pub fn answer(&self, ticket: Ticket, bytes: &[u8]) {
        let seat = self.seat;
        let Ticket { shard, tag } = ticket;
        self.process.live(|state| {
            if state.member(seat).ledger.answer(shard) {
                let bytes = bytes.into();
                let to = Seat { shard, ..seat };
                state.post_letter(seat.shard, to, Letter::Answer { tag, bytes });
            }
        });
    }

    pub fn unanswered(&self) -> u64 {
        let unanswered = self
            .process
            .live(|state| state.member(self.seat).ledger.unanswered());
        unanswered.unwrap_or(0)
    }
}
