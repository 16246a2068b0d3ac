//! Collection without a disk: what a policy writes for a byte of a user, at a given space. The choice of the policy and
//! of the size of segments rests on the table that `the_policy_is_the_best_of_those_tried` prints:
//!
//! `cargo test --release --lib engine::usage::simulation -- --nocapture`
//!
//! Records are all of one size. They are loaded in random order and overwritten until the figures stand still. Space is
//! that of the log over what lives in it; segments that wait to be written count, those that an emptied one waits in
//! too.

use super::benefit;
use crate::base::rng::Rng;
use std::collections::VecDeque;

const RECORDS: usize = 40_000;
/// Overwrites of all records before the count begins, and while it goes on.
const ROUNDS: (usize, usize) = (5, 4);
/// Segments that are begun or ready, of which half a segment is written on average.
const UNWRITTEN_SEGMENTS: usize = 3;
/// The replayed part of what lives, where nothing is collected.
const REPLAYED_PART: usize = 16;
/// The part of what lives that is overwritten until emptied segments go.
const HELD_PART: usize = 32;

#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// The least part alive.
    Greedy,
    /// `benefit`.
    Benefit,
}

#[derive(Clone, Copy)]
struct Policy {
    /// 1: copies go where new records go. 2: they have a segment of their own. 3: copies of copies too.
    generations: usize,
    order: Order,
    victims_at_once: usize,
}

#[derive(Clone, Copy)]
struct World {
    zipfian: bool,
    space_percent: usize,
    segments: usize,
}

/// Of what the house does.
const CHOSEN: Policy = Policy {
    generations: 2,
    order: Order::Benefit,
    victims_at_once: 1,
};

/// Keys as YCSB draws them, 0.99, without regard to their order.
struct Keys {
    rng: Rng,
    /// Sums of the probabilities of the ranks; empty: uniform.
    sums: Vec<f64>,
    key_of_rank: Vec<usize>,
}

impl Keys {
    fn new(zipfian: bool) -> Keys {
        let mut rng = Rng::new(7);
        let mut key_of_rank: Vec<usize> = (0..RECORDS).collect();
        for last in (1..RECORDS).rev() {
            key_of_rank.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let weights = (1..=RECORDS).map(|rank| (rank as f64).powf(-0.99));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Keys {
            rng,
            sums: if zipfian { sums.collect() } else { Vec::new() },
            key_of_rank,
        }
    }

    fn draw(&mut self) -> usize {
        let Some(all) = self.sums.last() else {
            return self.rng.below(RECORDS as u64) as usize;
        };
        let at = self.rng.below(1 << 53) as f64 / (1u64 << 53) as f64 * all;
        self.key_of_rank[self.sums.partition_point(|sum| *sum < at)]
    }
}

#[derive(Default)]
struct Segment {
    keys: Vec<usize>,
    live: usize,
    generation: usize,
    collectable: bool,
}

struct Log {
    policy: Policy,
    capacity: usize,
    /// By number, which is the order of age.
    segments: Vec<Segment>,
    there: Vec<usize>,
    open: Vec<Option<usize>>,
    /// Full, and still to be replayed.
    recent: VecDeque<usize>,
    /// The segment of each record.
    place: Vec<Option<usize>>,
    written: usize,
    /// Emptied segments: until when they are there.
    held: VecDeque<usize>,
}

impl Log {
    fn put(&mut self, key: usize, generation: usize) {
        let is_full = |log: &Log, nth: usize| log.segments[nth].keys.len() >= log.capacity;
        if self.open[generation].is_none_or(|nth| is_full(self, nth)) {
            match self.open[generation] {
                Some(full) if generation == 0 => self.recent.push_back(full),
                Some(full) => self.segments[full].collectable = true,
                None => {}
            }
            self.open[generation] = Some(self.segments.len());
            self.there.push(self.segments.len());
            self.segments.push(Segment {
                generation,
                ..Segment::default()
            });
        }
        let nth = self.open[generation].expect("it was just begun");
        if let Some(before) = self.place[key].replace(nth) {
            self.segments[before].live -= 1;
        }
        self.segments[nth].keys.push(key);
        self.segments[nth].live += 1;
        self.written += 1;
    }

    fn victim(&self) -> Option<usize> {
        let count = self.there.len();
        let pays = |(place, &nth): (usize, &usize)| {
            let segment = &self.segments[nth];
            let (bytes, live) = (self.capacity as u64, segment.live as u64);
            let worth = match self.policy.order {
                Order::Benefit => benefit(bytes, live, (count - place) as u64),
                Order::Greedy => u128::from(bytes - live),
            };
            segment.collectable.then_some((worth, nth))
        };
        let best = self.there.iter().enumerate().filter_map(pays).max();
        best.map(|(_, nth)| nth)
    }

    fn collect(&mut self, victim: usize) {
        let segment = std::mem::take(&mut self.segments[victim]);
        self.segments[victim].live = segment.live;
        self.there.retain(|&other| other != victim);
        let last = self.policy.generations - 1;
        for key in segment.keys {
            if self.place[key] == Some(victim) {
                self.put(key, (segment.generation + 1).min(last));
            }
        }
    }
}

/// Bytes written for a byte of a user, and the space that was taken on average.
fn run(policy: Policy, world: World) -> (f64, f64) {
    let space = RECORDS * world.space_percent / 100;
    let capacity = space / world.segments;
    let mut keys = Keys::new(world.zipfian);
    let mut log = Log {
        policy,
        capacity,
        segments: Vec::new(),
        there: Vec::new(),
        open: vec![None; policy.generations],
        recent: VecDeque::new(),
        place: vec![None; RECORDS],
        written: 0,
        held: VecDeque::new(),
    };
    let load: Vec<usize> = keys.key_of_rank.clone();
    load.into_iter().for_each(|key| log.put(key, 0));
    let begin = ROUNDS.0 * RECORDS;
    let end = begin + ROUNDS.1 * RECORDS;
    let (mut taken_sum, mut before) = (0, 0);
    for turn in 0..end {
        log.put(keys.draw(), 0);
        while log.recent.len() * capacity > RECORDS / REPLAYED_PART {
            let nth = log.recent.pop_front().expect("there are some");
            log.segments[nth].collectable = true;
        }
        while log.held.front().is_some_and(|until| *until <= turn) {
            log.held.pop_front();
        }
        loop {
            // What is emptied goes soon: it does not call for more.
            let held = log.held.len().min(RECORDS / HELD_PART / capacity);
            let taken = (log.there.len() + UNWRITTEN_SEGMENTS - policy.generations) * capacity;
            if taken + held * capacity <= space {
                break;
            }
            let mut any = false;
            for _ in 0..policy.victims_at_once {
                let Some(victim) = log.victim() else { break };
                log.collect(victim);
                log.held.push_back(turn + RECORDS / HELD_PART / 2);
                any = true;
            }
            if !any {
                break;
            }
        }
        if turn == begin {
            before = log.written;
        }
        if turn >= begin {
            let segments = log.there.len() + log.held.len() + UNWRITTEN_SEGMENTS;
            taken_sum += (segments - policy.generations) * capacity;
        }
    }
    let rounds = (end - begin) as f64;
    let written = (log.written - before) as f64 / rounds;
    (written, taken_sum as f64 / rounds / RECORDS as f64)
}

#[test]
fn the_policy_is_the_best_of_those_tried() {
    let policies = [
        ("one, greedy", 1, Order::Greedy, 1),
        ("one, benefit", 1, Order::Benefit, 1),
        ("two, greedy", 2, Order::Greedy, 1),
        ("two, benefit", 2, Order::Benefit, 1),
        ("two, four victims", 2, Order::Benefit, 4),
        ("three, benefit", 3, Order::Benefit, 1),
    ];
    println!("written for a byte of a user, at the space of the log");
    for zipfian in [false, true] {
        for (space_percent, segments) in [(130, 128), (150, 128), (160, 128), (200, 128)] {
            let world = World {
                zipfian,
                space_percent,
                segments,
            };
            print!(
                "{} {space_percent} %:",
                if zipfian { "zipfian" } else { "uniform" }
            );
            for (name, generations, order, victims_at_once) in policies {
                let policy = Policy {
                    generations,
                    order,
                    victims_at_once,
                };
                let (written, space) = run(policy, world);
                print!("  {name} {written:.2} ({space:.2})");
            }
            println!();
        }
    }
}

/// Few segments cost space, since some are always empty; many cost files.
#[test]
fn enough_segments_are_chosen() {
    let written = |segments, zipfian| {
        let world = World {
            zipfian,
            space_percent: 160,
            segments,
        };
        run(CHOSEN, world).0
    };
    for zipfian in [false, true] {
        print!("{}:", if zipfian { "zipfian" } else { "uniform" });
        for segments in [12, 50, 100, 200, 400] {
            print!("  {segments} segments {:.2}", written(segments, zipfian));
        }
        println!();
    }
    let (few, chosen, many) = (written(12, false), written(200, false), written(400, false));
    assert!(
        chosen < few && chosen < many * 1.05,
        "{few} {chosen} {many}"
    );
}

/// The bound that theory gives for uniform overwrites, and the gain of two generations under skew.
#[test]
fn two_generations_pay_under_skew_and_cost_nothing_else() {
    let world = |zipfian| World {
        zipfian,
        space_percent: 160,
        segments: 128,
    };
    let one = Policy {
        generations: 1,
        ..CHOSEN
    };
    let (uniform, _) = run(CHOSEN, world(false));
    let (mixed, _) = run(one, world(true));
    let (apart, _) = run(CHOSEN, world(true));
    assert!((1.5..1.8).contains(&uniform), "{uniform}");
    assert!(apart < mixed * 0.85, "{apart} {mixed}");
}
