//! The requests in flight on one connection, by their ids.
//!
//! Ids count up from one, so a queue of places is enough: an answer finds its place by its id, answered ones leave from
//! the front. No hashing, and no allocation once it has grown.

use crate::plan::Task;
use std::collections::VecDeque;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    pub task: Task,
    pub intended: Instant,
    pub began: Instant,
    pub sent: Instant,
}

#[derive(Default)]
pub struct Flights {
    /// Id of the first place.
    first: u64,
    places: VecDeque<Option<Flight>>,
}

impl Flights {
    pub fn new() -> Flights {
        Flights {
            first: 1,
            places: VecDeque::new(),
        }
    }

    pub fn add(&mut self, id: u64, flight: Flight) {
        assert_eq!(id, self.first + self.places.len() as u64, "ids count up");
        self.places.push_back(Some(flight));
    }

    pub fn take(&mut self, id: u64) -> Option<Flight> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let flight = self.places.get_mut(index)?.take();
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        flight
    }

    /// When the oldest was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.places
            .front()
            .copied()
            .flatten()
            .map(|flight| flight.sent)
    }

    pub fn into_all(self) -> impl Iterator<Item = Flight> {
        self.places.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Stage;
    use crate::record::Sequence;
    use crate::ycsb::mix::Kind;

    #[test]
    fn answers_in_any_order_find_their_requests() {
        let now = Instant::now();
        let flight = |number| {
            let task = Task {
                kind: Kind::Read,
                stage: Stage::Get,
                number,
                sequence: Sequence(0),
                at_least: None,
                draft: None,
                bytes: 0,
                checksum: 0,
            };
            Flight {
                task,
                intended: now,
                began: now,
                sent: now,
            }
        };
        let mut flights = Flights::new();
        for id in 1..=5 {
            flights.add(id, flight(id));
        }
        for id in [3, 1, 2, 5] {
            assert_eq!(flights.take(id).map(|flight| flight.task.number), Some(id));
            assert_eq!(flights.take(id), None, "only once");
        }
        assert_eq!((flights.take(0), flights.take(6)), (None, None));
        flights.add(6, flight(6));
        let left: Vec<u64> = flights
            .into_all()
            .map(|flight| flight.task.number)
            .collect();
        assert_eq!(left, [4, 6]);
    }
}
