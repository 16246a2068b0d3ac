//! Owners of virtual nodes, and what is wrong with their order: a cost that is kept up to date with each change.
//!
//! From worst to least: a node twice within N consecutive arcs; a zone twice; an arc that moved; a pair of nodes where
//! one stands in for too much of the other.

/// A node twice within N consecutive arcs. Outweighs all else.
const NODE_AGAIN: u64 = 1 << 32;
/// A zone twice within as many arcs as there are zones: the preference list walks on, and loads become uneven.
const ZONE_AGAIN: u64 = 1 << 9;
/// An arc that changed hands.
const MOVED: u64 = 1 << 8;
/// The square of what a pair has too much; seldom more than a few.
const PAIR: u64 = 16;

/// What does not change while owners do.
pub struct Rules<'a> {
    /// The zone of each member: numbers without gaps.
    pub zones: &'a [usize],
    /// N, or the number of members if that is less.
    pub replicas: usize,
    /// Whom an arc belonged to before, if that one is still there.
    pub before: &'a [Option<u16>],
    /// How many virtual nodes each member should own.
    pub targets: &'a [usize],
}

impl Rules<'_> {
    /// Within how many arcs no zone should stand twice: N if there are as many zones.
    pub fn zone_distance(&self) -> usize {
        let zones = self.zones.iter().max().map_or(1, |last| last + 1);
        self.replicas.min(zones) - 1
    }
}

pub struct Layout<'a> {
    rules: &'a Rules<'a>,
    pub owners: Vec<u16>,
    /// By pairs of members: arcs in whose walk the second follows the first within N steps: there it is the first to
    /// stand in for it.
    follows: Vec<u16>,
    follows_max: Vec<u16>,
    zone_distance: usize,
    cost: u64,
}

impl<'a> Layout<'a> {
    pub fn new(rules: &'a Rules<'a>, owners: Vec<u16>) -> Layout<'a> {
        let members = rules.targets.len();
        let mut layout = Layout {
            rules,
            follows: vec![0; members * members],
            follows_max: follows_max(rules),
            zone_distance: rules.zone_distance(),
            cost: 0,
            owners,
        };
        for at in 0..layout.owners.len() {
            layout.cost += layout.alone(at);
            for distance in 1..=layout.reach() {
                layout.pair(at, (at + distance) % layout.owners.len(), distance, true);
            }
        }
        layout
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether a swap of the arc might lower the cost.
    pub fn is_wrong(&self, at: usize) -> bool {
        if self.alone(at) > 0 {
            return true;
        }
        let count = self.owners.len();
        let owner = self.owners[at];
        (1..=self.reach()).any(|distance| {
            let before = self.owners[(at + count - distance) % count];
            let behind = self.owners[(at + distance) % count];
            [(before, owner), (owner, behind)]
                .into_iter()
                .any(|(first, second)| {
                    self.again(first, second, distance) > 0 || {
                        let place = self.place(first, second);
                        first != second && self.follows[place] > self.follows_max[place]
                    }
                })
        })
    }

    /// Whether nobody owned the arc before, or somebody else: it moves anyway.
    pub fn is_loose(&self, at: usize) -> bool {
        self.rules.before[at] != Some(self.owners[at])
    }

    /// Whether a node stands twice within N arcs somewhere.
    pub fn repeats(&self) -> bool {
        self.cost >= NODE_AGAIN
    }

    /// With N members each has everything, and who has more than one arc in N stands somewhere twice.
    pub fn can_do_without_repeats(&self) -> bool {
        let most = self.rules.targets.iter().max().copied().unwrap_or(0);
        self.rules.replicas < self.rules.targets.len()
            && most <= self.owners.len() / self.rules.replicas
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        let (first, second) = (self.owners[a], self.owners[b]);
        self.set(a, second);
        self.set(b, first);
    }

    pub fn set(&mut self, at: usize, owner: u16) {
        self.neighbours(at, false);
        self.owners[at] = owner;
        self.neighbours(at, true);
    }

    /// Takes the pairs of an arc out of the cost, or puts them in.
    fn neighbours(&mut self, at: usize, add: bool) {
        let count = self.owners.len();
        let alone = self.alone(at);
        self.cost = if add {
            self.cost + alone
        } else {
            self.cost - alone
        };
        for distance in 1..=self.reach() {
            self.pair(at, (at + distance) % count, distance, add);
            self.pair((at + count - distance) % count, at, distance, add);
        }
    }

    fn alone(&self, at: usize) -> u64 {
        let moved = self.rules.before[at].is_some_and(|before| before != self.owners[at]);
        if moved { MOVED } else { 0 }
    }

    fn pair(&mut self, first: usize, second: usize, distance: usize, add: bool) {
        let (first, second) = (self.owners[first], self.owners[second]);
        let again = self.again(first, second, distance);
        self.cost = if add {
            self.cost + again
        } else {
            self.cost - again
        };
        if first == second {
            return;
        }
        let place = self.place(first, second);
        let max = self.follows_max[place];
        let square = |follows: u16| u64::from(follows.saturating_sub(max)).pow(2) * PAIR;
        let before = self.follows[place];
        let after = if add { before + 1 } else { before - 1 };
        self.follows[place] = after;
        self.cost = self.cost + square(after) - square(before);
    }

    /// The cost of meeting a node or zone again after so many steps.
    fn again(&self, first: u16, second: u16, distance: usize) -> u64 {
        if first == second {
            // One step further it is no replica twice, but stands in for nobody there.
            return if distance < self.rules.replicas {
                NODE_AGAIN
            } else {
                PAIR
            };
        }
        let zone = |member: u16| self.rules.zones[usize::from(member)];
        if distance <= self.zone_distance && zone(first) == zone(second) {
            return ZONE_AGAIN / distance as u64;
        }
        0
    }

    fn place(&self, first: u16, second: u16) -> usize {
        usize::from(first) * self.rules.targets.len() + usize::from(second)
    }

    /// How far an arc minds its neighbours; on the smallest rings not as far as itself.
    fn reach(&self) -> usize {
        self.rules.replicas.min((self.owners.len() - 1) / 2)
    }
}

/// One and a half times what an even spread gives, so that twice as much is seldom met.
fn follows_max(rules: &Rules<'_>) -> Vec<u16> {
    let all: usize = rules.targets.iter().sum();
    let pair = |first: usize, second: usize| {
        let others = (all - first).max(1);
        (3 * rules.replicas * first * second / (2 * others)).clamp(1, usize::from(u16::MAX)) as u16
    };
    let of = |&first: &usize| rules.targets.iter().map(move |&second| pair(first, second));
    rules.targets.iter().flat_map(of).collect()
}
