//! Requests whose task reads the disk: each is answered by its deadline, whether its task is back or not.
//!
//! A task that is late finds its request gone, and only gives back what it holds: until then it counts, so that a disk
//! that hangs is not asked by more and more of them.

use super::waiters::Asker;
use crate::base::units::Nanos;

/// Names a request that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave(usize);

#[derive(Debug)]
enum Place {
    Free,
    Waits(Asker),
    /// Answered at its deadline; its task still holds what it had been promised.
    Answered(Asker),
}

#[derive(Debug, Default)]
pub struct Away {
    places: Vec<Place>,
    free: Vec<usize>,
}

/// What a task finds when it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    InTime(Asker),
    TooLate(Asker),
}

impl Away {
    pub fn leave(&mut self, asker: Asker) -> Leave {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::Free);
            self.places.len() - 1
        });
        self.places[place] = Place::Waits(asker);
        Leave(place)
    }

    pub fn back(&mut self, leave: Leave) -> Back {
        self.free.push(leave.0);
        match std::mem::replace(&mut self.places[leave.0], Place::Free) {
            Place::Waits(asker) => Back::InTime(asker),
            Place::Answered(asker) => Back::TooLate(asker),
            Place::Free => unreachable!("a task is back once"),
        }
    }

    /// Tasks that are away, late ones too.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those whose deadline has passed, each once.
    pub fn expired(&mut self, now: Nanos) -> Vec<Asker> {
        let mut expired = Vec::new();
        for place in &mut self.places {
            if let Place::Waits(asker) = *place
                && asker.deadline <= now
            {
                *place = Place::Answered(asker);
                expired.push(asker);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::waiters::ReplyTo;
    use crate::runtime::net::ConnectionId;
    use crate::wire::message::Op;

    fn asker(request: u64, deadline: u64) -> Asker {
        Asker {
            to: ReplyTo::Connection(ConnectionId {
                slot: 0,
                generation: 0,
            }),
            request,
            op: Op::Get,
            began: None,
            deadline: Nanos(deadline),
            promised: 0,
        }
    }

    #[test]
    fn a_request_is_answered_once_by_its_task_or_by_its_deadline() {
        let mut away = Away::default();
        let (soon, late) = (away.leave(asker(1, 10)), away.leave(asker(2, 20)));
        assert_eq!(away.expired(Nanos(10)), [asker(1, 10)]);
        assert!(away.expired(Nanos(15)).is_empty());
        assert_eq!(away.len(), 2, "a late task counts until it is back");
        assert_eq!(away.back(late), Back::InTime(asker(2, 20)));
        assert_eq!(away.back(soon), Back::TooLate(asker(1, 10)));
        assert!(away.is_empty() && away.expired(Nanos(99)).is_empty());
        let again = away.leave(asker(3, 30));
        assert_eq!(away.back(again), Back::InTime(asker(3, 30)));
    }
}
