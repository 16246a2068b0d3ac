//! What the simulated clients ask for: few hot keys and some cold ones, all kinds of writes, fresh, stale and foreign
//! contexts, deletes and re-creation, retries under the same operation id.

use crate::base::rng::Rng;
use crate::causal::version_vector::VersionVector;

/// One thing a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get {
        key: Vec<u8>,
        terms: Terms,
    },
    Write {
        key: Vec<u8>,
        terms: Terms,
        deletes: bool,
        how: How,
        value_bytes: usize,
    },
}

/// The votes and the time that a request asks for; zero is the node's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub read: u8,
    pub write: u8,
    pub strict: bool,
    pub timeout_ms: u32,
}

/// What a write supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// A context that an earlier get of the key gave out, fresh or stale.
    Context(Remembered),
    /// A context of another key: it must be refused.
    Foreign(Remembered),
    Concurrent,
    Overwrite,
    IfAbsent,
}

/// A context as its client keeps it, and what the checker knows it to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub key: Vec<u8>,
    pub token: Vec<u8>,
    pub seen: VersionVector,
}

/// How the requests of one seed choose their terms.
#[derive(Clone, Copy, Debug)]
struct Choices {
    copies: u8,
    /// How often each of the terms is other than the default.
    votes: f64,
    strict: f64,
    hasty: f64,
}

/// The largest values of a world of one node, in a few seeds.
const HUGE_BYTES: usize = 400_000;
/// The same of a ring: the nodes there take no larger ones.
const LARGE_BYTES: usize = 60_000;

/// The switches of one seed: swarm testing turns kinds of actions up, down and off.
#[derive(Clone, Debug)]
pub struct Workload {
    keys: u64,
    hot_keys: u64,
    gets: f64,
    deletes: f64,
    value_bytes_max: usize,
    weights: [u64; 5],
    /// None: a ring of one has no votes to choose from.
    choices: Option<Choices>,
}

impl Workload {
    pub fn draw(rng: &mut Rng) -> Workload {
        let mut weights = [0; 5];
        for weight in &mut weights {
            *weight = if rng.chance(0.8) {
                1 + rng.below(10)
            } else {
                0
            };
        }
        Workload {
            keys: 2 + rng.below(60),
            hot_keys: 1 + rng.below(3),
            gets: 0.2 + 0.1 * rng.below(5) as f64,
            deletes: 0.1 * rng.below(4) as f64,
            // Now and then so much that one life fills segments.
            value_bytes_max: match rng.chance(0.03) {
                true => HUGE_BYTES,
                false => [16, 200, 5_000, 40_000][rng.below(4) as usize],
            },
            weights,
            choices: None,
        }
    }

    /// The same for a ring where a key has so many copies: values are small, since each is sent that often, but now and
    /// then so large that those of one key are more than a record holds; and few writes are made to be refused.
    pub fn draw_for_ring(rng: &mut Rng, copies: u8) -> Workload {
        let alone = Workload::draw(rng);
        let [context, foreign, concurrent, absent, overwrite] = alone.weights;
        let small = [16, 200, 3_000][rng.below(3) as usize];
        let huge = alone.value_bytes_max == HUGE_BYTES;
        Workload {
            weights: [
                context,
                foreign.min(1),
                // Large ones that stay beside each other.
                if huge { 40 } else { concurrent },
                absent.min(2),
                overwrite,
            ],
            value_bytes_max: if huge { LARGE_BYTES } else { small },
            choices: Some(Choices {
                copies,
                votes: [0.0, 0.3, 0.9][rng.below(3) as usize],
                strict: [0.0, 0.5, 1.0][rng.below(3) as usize],
                hasty: [0.0, 0.0, 0.2][rng.below(3) as usize],
            }),
            ..alone
        }
    }

    pub fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    pub fn next(&self, rng: &mut Rng, remembered: &[Remembered]) -> Action {
        let key = self.key(rng);
        if rng.chance(self.gets) {
            let terms = self.terms(rng);
            return Action::Get { key, terms };
        }
        let how = self.how(rng, &key, remembered);
        let deletes = rng.chance(self.deletes) && how != How::IfAbsent;
        let value_bytes = match rng.chance(0.1) {
            true => rng.below(70) as usize,
            false => rng.below(self.value_bytes_max as u64 + 1) as usize,
        };
        let terms = self.terms(rng);
        Action::Write {
            key,
            terms,
            deletes,
            how,
            value_bytes,
        }
    }

    fn terms(&self, rng: &mut Rng) -> Terms {
        let Some(choices) = self.choices else {
            return Terms::default();
        };
        let votes = |rng: &mut Rng| match rng.chance(choices.votes) {
            // Once in a while more than there are.
            true if rng.chance(0.01) => choices.copies + 1,
            true => 1 + rng.below(u64::from(choices.copies)) as u8,
            false => 0,
        };
        Terms {
            read: votes(rng),
            write: votes(rng),
            strict: rng.chance(choices.strict),
            timeout_ms: match rng.chance(choices.hasty) {
                true => 5 + rng.below(300) as u32,
                false => 0,
            },
        }
    }

    fn key(&self, rng: &mut Rng) -> Vec<u8> {
        let among = if rng.chance(0.6) {
            self.hot_keys
        } else {
            self.keys
        };
        format!("key-{}", rng.below(among.min(self.keys))).into_bytes()
    }

    fn how(&self, rng: &mut Rng, key: &[u8], remembered: &[Remembered]) -> How {
        let total: u64 = self.weights.iter().sum();
        if total == 0 {
            return How::Overwrite;
        }
        let mut draw = rng.below(total);
        let mut kind = 0;
        while draw >= self.weights[kind] {
            draw -= self.weights[kind];
            kind += 1;
        }
        match kind {
            0 => {
                let own: Vec<&Remembered> = remembered.iter().filter(|r| r.key == key).collect();
                match own.as_slice() {
                    [] => How::Overwrite,
                    [.., newest] if rng.chance(0.7) => How::Context((*newest).clone()),
                    own => How::Context(own[rng.below(own.len() as u64) as usize].clone()),
                }
            }
            1 => match remembered
                .iter()
                .find(|r| r.key != key && !r.token.is_empty())
            {
                Some(foreign) => How::Foreign(foreign.clone()),
                None => How::Overwrite,
            },
            2 if self.value_bytes_max == LARGE_BYTES || rng.chance(0.3) => How::Concurrent,
            3 => How::IfAbsent,
            _ => How::Overwrite,
        }
    }
}

/// The value an operation puts: anybody can tell whether bytes are it.
pub fn value_of(operation: u128, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(operation as u64 ^ (operation >> 64) as u64);
    let mut value = vec![0; bytes];
    rng.bytes(&mut value);
    let id = operation.to_le_bytes();
    let shared = bytes.min(id.len());
    value[..shared].copy_from_slice(&id[..shared]);
    value
}
