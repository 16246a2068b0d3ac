//! Requests that wait for other replicas: who was asked what, and what came back.
//!
//! A flight belongs to one task, which asks through it and takes its answers one after another until its deadline. Each
//! ask is answered once: by its answer, or by the loss of its link.

use super::links::Remote;
use crate::base::limits::{FLIGHTS_MAX, HEDGE_MS};
use crate::base::units::Nanos;
use crate::causal::object::Object;
use crate::coordinator::asked::Asked;
use crate::engine::Entry;
use crate::engine::key::Key;
use crate::ring::register::Vote;
use crate::runtime::notify::Notify;
use crate::wire::message::Status;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::rc::Rc;

/// A value that travelled, or did not.
pub type Carried = Option<Rc<[u8]>>;

/// The replicas of a key, in the order of its preference list: each a shard of a node.
pub type Replicas = SmallVec<[Remote; 4]>;

/// Why something was not done. Nothing was changed, unless the status is one that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: Status,
    pub message: String,
}

impl Refused {
    pub fn new(status: Status, why: impl ToString) -> Refused {
        Refused {
            status,
            message: why.to_string(),
        }
    }

    /// The link broke while the answer was awaited.
    fn lost() -> Refused {
        Refused::new(
            Status::OutcomeUnknown,
            "its connection broke before it answered",
        )
    }
}

/// What a replica did with a state that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is on its medium, joined with what was there: a vote.
    Durable,
    /// Nothing yet: it lacks a value that was left out.
    Needs,
}

/// What comes back.
#[derive(Debug)]
pub enum Answer {
    /// This shard's own replica holds this, durably.
    OwnFound(Result<Option<Rc<Entry>>, Refused>),
    /// This shard's own replica has a write or a join on its medium, or says why not.
    OwnStored(Result<Stored, Refused>),
    /// Another replica holds this, durably; `None`: nothing.
    Found {
        replica: usize,
        object: Option<Box<Object<Carried>>>,
    },
    /// Another replica has taken a state, or needs the rest of it.
    Stored { replica: usize, what: Stored },
    /// Another replica says that it did nothing, and why; or its link was lost, and nobody knows.
    Refused { replica: usize, why: Refused },
    /// A full member's vote on the next ring.
    Voted { replica: usize, vote: Vote },
    /// A page of keys that another node holds, and whether there are more.
    Scanned {
        replica: usize,
        keys: Vec<Key>,
        more: bool,
    },
    /// Another node has heard it.
    Noted { replica: usize },
    /// The frame of the reply to a request that was forwarded.
    Forwarded { frame: Vec<u8> },
    /// It takes long: time to ask those that were spared.
    Hedge,
    /// There are so many flights that those whose client has its reply should end.
    Crowded,
}

/// Names a flight, here and in the messages to other nodes: a slot, and the generation of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightId(pub u64);

impl FlightId {
    fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug)]
struct Flight {
    replicas: Replicas,
    asked: Asked,
    answers: VecDeque<Answer>,
    opened: Nanos,
    hedged: bool,
    /// A `Crowded` is among the answers.
    crowded: bool,
    deadline: Nanos,
    expired: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    flight: Option<Flight>,
    /// Wakes its task.
    wake: Rc<Notify>,
}

#[derive(Default)]
pub struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// What a task takes next.
#[derive(Debug)]
pub enum Taken {
    Answer(Answer),
    /// Nothing yet; the notification wakes it.
    Wait(Rc<Notify>),
    /// The deadline has passed.
    Late,
}

impl Flights {
    /// `None`: there are too many.
    pub fn open(&mut self, replicas: Replicas, now: Nanos, deadline: Nanos) -> Option<FlightId> {
        if self.len() >= FLIGHTS_MAX {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.flight.is_none());
        place.wake = Rc::default();
        place.flight = Some(Flight {
            replicas,
            asked: Asked::default(),
            answers: VecDeque::new(),
            opened: now,
            hedged: false,
            crowded: false,
            deadline,
            expired: false,
        });
        Some(FlightId(
            u64::from(place.generation) << 32 | u64::from(slot),
        ))
    }

    /// Late answers find nothing.
    pub fn close(&mut self, id: FlightId) {
        let place = &mut self.slots[id.slot()];
        assert_eq!(place.generation, id.generation());
        assert!(place.flight.take().is_some(), "a flight is closed once");
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot() as u32);
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&mut self, id: FlightId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.slot())
            .filter(|slot| slot.generation == id.generation() && slot.flight.is_some())
    }

    fn own(&mut self, id: FlightId) -> &mut Flight {
        let slot = self.get(id).expect("its task closes a flight last");
        slot.flight.as_mut().expect("seen above")
    }

    /// A replica is asked now.
    pub fn on_asked(&mut self, id: FlightId, replica: usize) {
        self.own(id).asked.ask(replica);
    }

    pub fn asked(&mut self, id: FlightId) -> Asked {
        self.own(id).asked
    }

    pub fn deadline(&mut self, id: FlightId) -> Nanos {
        self.own(id).deadline
    }

    /// An answer of another replica; what nobody waits for, or what came before, is dropped.
    pub fn on_answer(&mut self, id: FlightId, from: Remote, answer: impl FnOnce(usize) -> Answer) {
        let Some(slot) = self.get(id) else {
            return;
        };
        let flight = slot.flight.as_mut().expect("seen above");
        if let Some(replica) = flight.replicas.iter().position(|&r| r == from)
            && flight.asked.take(replica)
        {
            flight.answers.push_back(answer(replica));
            slot.wake.notify();
        }
    }

    /// An answer of this shard's own replica.
    pub fn on_own(&mut self, id: FlightId, answer: Answer) {
        if let Some(slot) = self.get(id) {
            let flight = slot.flight.as_mut().expect("seen above");
            flight.answers.push_back(answer);
            slot.wake.notify();
        }
    }

    /// A link was lost: what was asked there will not be answered.
    pub fn on_lost(&mut self, remote: Remote) {
        for slot in &mut self.slots {
            let Some(flight) = slot.flight.as_mut() else {
                continue;
            };
            let replica = flight.replicas.iter().position(|&r| r == remote);
            if let Some(replica) = replica
                && flight.asked.take(replica)
            {
                let why = Refused::lost();
                flight.answers.push_back(Answer::Refused { replica, why });
                slot.wake.notify();
            }
        }
    }

    pub fn on_tick(&mut self, now: Nanos) {
        let crowded = self.len() > FLIGHTS_MAX / 2;
        for slot in &mut self.slots {
            let Some(flight) = slot.flight.as_mut() else {
                continue;
            };
            let hedge = Nanos(flight.opened.0 + HEDGE_MS * 1_000_000);
            if !flight.hedged && hedge <= now {
                flight.hedged = true;
                flight.answers.push_back(Answer::Hedge);
                slot.wake.notify();
            }
            // One at a time: those that wait for their own disk take none out.
            if crowded && !flight.crowded {
                flight.crowded = true;
                flight.answers.push_back(Answer::Crowded);
                slot.wake.notify();
            }
            if !flight.expired && flight.deadline <= now {
                flight.expired = true;
                slot.wake.notify();
            }
        }
    }

    pub fn take(&mut self, id: FlightId) -> Taken {
        let slot = self.get(id).expect("its task closes a flight last");
        let wake = slot.wake.clone();
        let flight = slot.flight.as_mut().expect("seen above");
        match flight.answers.pop_front() {
            Some(answer) => {
                flight.crowded &= !matches!(answer, Answer::Crowded);
                Taken::Answer(answer)
            }
            None if flight.expired => Taken::Late,
            None => Taken::Wait(wake),
        }
    }
}
