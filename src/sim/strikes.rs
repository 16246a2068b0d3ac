//! What strikes a cluster, and when: drawn from the seed, each kind on or off for a whole run.

use super::nemesis::{Ending, Nemesis};
use crate::base::rng::Rng;
use std::time::Duration;

/// Something that befalls a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A node's life ends.
    End(usize, Ending),
    /// These lose power in the same moment.
    PowerCut(Vec<usize>),
    Part(Shape),
    /// A client and a node do not reach each other, in one direction or both.
    CutOff {
        client: usize,
        node: usize,
        both: bool,
    },
    /// The wall clock of a node jumps by so many milliseconds.
    Clock(usize, i64),
}

/// Who does not reach whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One reaches nobody.
    Isolated(usize),
    /// Two sides: those of the list, and the others.
    Split(Vec<usize>),
    /// What the first sends does not reach the second.
    OneWay(usize, usize),
    /// What the first sends reaches nobody; it hears everybody.
    Mute(usize),
    /// Two sides that meet in one node only.
    Bridge(usize, Vec<usize>),
}

impl Shape {
    /// The directions in which nothing passes, among so many nodes.
    pub fn cuts(&self, nodes: usize) -> Vec<(usize, usize)> {
        let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let cut = |&(from, to): &(usize, usize)| {
            let apart = |side: &[usize]| side.contains(&from) != side.contains(&to);
            match self {
                Shape::Isolated(one) => from == *one || to == *one,
                Shape::Split(side) => apart(side),
                Shape::OneWay(one, other) => (from, to) == (*one, *other),
                Shape::Mute(one) => from == *one,
                Shape::Bridge(bridge, side) => from != *bridge && to != *bridge && apart(side),
            }
        };
        all.filter(|(from, to)| from != to).filter(cut).collect()
    }
}

/// The kinds of strikes; each is on or off for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    End,
    PowerCut,
    Part,
    CutOff,
    Clock,
}

/// The strikes of one run.
#[derive(Clone, Debug)]
pub struct Strikes {
    kinds: Vec<Kind>,
    nodes: usize,
    clients: usize,
    gap_ms_max: u64,
    down_ms_max: u64,
    parted_ms_max: u64,
    /// Whether they begin before the ring was formed.
    pub from_birth: bool,
}

impl Strikes {
    pub fn draw(rng: &mut Rng, nodes: usize, clients: usize) -> Strikes {
        let all = [
            Kind::End,
            Kind::End,
            Kind::PowerCut,
            Kind::Part,
            Kind::Part,
            Kind::CutOff,
            Kind::Clock,
        ];
        let mut kinds: Vec<Kind> = all.into_iter().filter(|_| rng.chance(0.6)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::Part);
        }
        Strikes {
            kinds,
            nodes,
            clients,
            gap_ms_max: [20, 50, 150][rng.below(3) as usize],
            down_ms_max: [10, 100, 1_000][rng.below(3) as usize],
            parted_ms_max: [20, 200, 2_000][rng.below(3) as usize],
            from_birth: rng.chance(0.2),
        }
    }

    pub fn next(&self, rng: &mut Rng, nemesis: &Nemesis) -> Strike {
        let node = |rng: &mut Rng| rng.below(self.nodes as u64) as usize;
        match self.kinds[rng.below(self.kinds.len() as u64) as usize] {
            Kind::End => Strike::End(node(rng), nemesis.next(rng).1),
            // Now and then all of them.
            Kind::PowerCut => Strike::PowerCut(match rng.chance(0.3) {
                true => (0..self.nodes).collect(),
                false => self.some(rng),
            }),
            Kind::Part => Strike::Part(self.shape(rng)),
            Kind::CutOff => Strike::CutOff {
                client: rng.below(self.clients as u64) as usize,
                node: node(rng),
                both: rng.chance(0.5),
            },
            Kind::Clock => Strike::Clock(node(rng), rng.below(20_000) as i64 - 10_000),
        }
    }

    fn some(&self, rng: &mut Rng) -> Vec<usize> {
        (0..self.nodes).filter(|_| rng.chance(0.5)).collect()
    }

    fn shape(&self, rng: &mut Rng) -> Shape {
        let one = rng.below(self.nodes as u64) as usize;
        let step = 1 + rng.below(self.nodes.max(2) as u64 - 1) as usize;
        match rng.below(5) {
            0 => Shape::Isolated(one),
            1 => Shape::Split(self.some(rng)),
            2 => Shape::OneWay(one, (one + step) % self.nodes),
            3 => Shape::Mute(one),
            _ => Shape::Bridge(one, self.some(rng)),
        }
    }

    /// How long it is until the next one.
    pub fn gap(&self, rng: &mut Rng) -> Duration {
        micros(rng, self.gap_ms_max)
    }

    /// How long a node stays down.
    pub fn down(&self, rng: &mut Rng) -> Duration {
        micros(rng, self.down_ms_max)
    }

    /// How long a partition lasts.
    pub fn parted(&self, rng: &mut Rng) -> Duration {
        micros(rng, self.parted_ms_max)
    }
}

fn micros(rng: &mut Rng, ms_max: u64) -> Duration {
    Duration::from_micros(500 + rng.below(ms_max * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_cuts_what_it_says() {
        let cuts = |shape: Shape| shape.cuts(3);
        assert_eq!(cuts(Shape::Isolated(1)), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(
            cuts(Shape::Split(vec![0, 1])),
            [(0, 2), (1, 2), (2, 0), (2, 1)]
        );
        assert_eq!(cuts(Shape::Split(vec![])), []);
        assert_eq!(cuts(Shape::OneWay(2, 0)), [(2, 0)]);
        assert_eq!(cuts(Shape::Mute(0)), [(0, 1), (0, 2)]);
        assert_eq!(cuts(Shape::Bridge(1, vec![0])), [(0, 2), (2, 0)]);
    }
}
