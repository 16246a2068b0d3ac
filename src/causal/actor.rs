//! Who mints dots, and when a mint may continue a counter (rules and reasons: DESIGN decision 9).
//!
//! Invariants: 1 a `Mint` never gives out one dot twice for one key, whatever the key's state
//! forgot in between, as long as no state brings back a `mine` older than the one it was given
//! last. 2 The dot is one that the vector has not seen. 3 The vector has seen all earlier dots of
//! the dot's actor.

use super::dot::{Actor, Dot, Incarnation};
use super::version_vector::VersionVector;
use crate::base::marks::mark;

/// The mint of one shard in one life. Two copies would live the same life, so it has none; tests
/// copy whole worlds.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Mint {
    incarnation: Incarnation,
    next_birth: u32,
}

impl Mint {
    pub fn new(incarnation: Incarnation) -> Mint {
        Mint {
            incarnation,
            next_birth: 0,
        }
    }

    /// The dot of the next write of a key.
    ///
    /// `mine`: the last dot this shard minted for the key, if it still knows it; `vector`: the
    /// key's vector after joining the client's context. Continues the counter only if `mine` is of
    /// this life and is exactly what the vector says of its actor; else begins a new actor.
    ///
    /// `None`: births have run out, or the vector knows an actor of this incarnation that was never
    /// born here, so that somebody else (a cloned machine) lives this life too. Nothing was minted;
    /// draw a new incarnation and mint again.
    pub fn mint(&mut self, mine: Option<Dot>, vector: &VersionVector) -> Option<Dot> {
        let last = vector.last_birth(self.incarnation);
        if last.is_some_and(|birth| birth >= self.next_birth) {
            mark!(MintImpersonated);
            return None;
        }
        let ours = mine.filter(|mine| mine.actor.incarnation == self.incarnation);
        let dot = match ours.and_then(|mine| continued(mine, vector)) {
            Some(dot) => {
                mark!(MintContinued);
                dot
            }
            None => {
                if ours.is_some() {
                    mark!(MintForgotten);
                }
                self.begin()?
            }
        };
        assert!(!vector.contains(dot), "a dot is minted once");
        assert_eq!(vector.get(dot.actor), dot.counter - 1);
        Some(dot)
    }

    /// Whether the next mint for this key adds no actor to `vector`: it goes on with the counter of `mine`.
    pub fn continues(&self, mine: Option<Dot>, vector: &VersionVector) -> bool {
        let ours = mine.filter(|mine| mine.actor.incarnation == self.incarnation);
        ours.is_some_and(|mine| continued(mine, vector).is_some())
    }

    /// The first dot of an actor that never was.
    fn begin(&mut self) -> Option<Dot> {
        let birth = self.next_birth;
        self.next_birth = birth.checked_add(1)?;
        Some(Dot {
            actor: Actor {
                incarnation: self.incarnation,
                birth,
            },
            counter: 1,
        })
    }
}

fn continued(mine: Dot, vector: &VersionVector) -> Option<Dot> {
    if vector.get(mine.actor) != mine.counter {
        return None;
    }
    Some(Dot {
        actor: mine.actor,
        counter: mine.counter.checked_add(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(77);

    fn dot(incarnation: Incarnation, birth: u32, counter: u64) -> Dot {
        let actor = Actor { incarnation, birth };
        Dot { actor, counter }
    }

    fn vector(dots: &[Dot]) -> VersionVector {
        let mut vector = VersionVector::default();
        dots.iter().for_each(|&dot| vector.add(dot));
        vector
    }

    #[test]
    fn continues_only_what_the_vector_confirms() {
        let mut mint = Mint::new(LIFE);
        let nothing = VersionVector::default();
        let first = mint.mint(None, &nothing);
        assert_eq!(first, Some(dot(LIFE, 0, 1)));

        let seen = vector(&[dot(LIFE, 0, 1)]);
        assert_eq!(mint.mint(first, &seen), Some(dot(LIFE, 0, 2)));
        // The vector is behind (the entry was lost), ahead (peers know more than we), or we do not
        // know what we minted.
        assert_eq!(mint.mint(first, &nothing), Some(dot(LIFE, 1, 1)));
        let ahead = vector(&[dot(LIFE, 0, 2)]);
        assert_eq!(mint.mint(first, &ahead), Some(dot(LIFE, 2, 1)));
        assert_eq!(mint.mint(None, &seen), Some(dot(LIFE, 3, 1)));
        // It is of another life, though the vector confirms it.
        let other = dot(Incarnation(5), 0, 1);
        assert_eq!(
            mint.mint(Some(other), &vector(&[other])),
            Some(dot(LIFE, 4, 1))
        );
    }

    #[test]
    fn asks_for_a_new_incarnation() {
        let mut mint = Mint {
            incarnation: LIFE,
            next_birth: u32::MAX - 1,
        };
        let nothing = VersionVector::default();
        assert_eq!(mint.mint(None, &nothing), Some(dot(LIFE, u32::MAX - 1, 1)));
        assert_eq!(mint.mint(None, &nothing), None);
        assert_eq!(mint.mint(None, &nothing), None, "and again");
        // A key that goes on with a counter needs no birth.
        let last = dot(LIFE, u32::MAX - 1, 1);
        let continued = mint.mint(Some(last), &vector(&[last]));
        assert_eq!(continued, Some(dot(LIFE, u32::MAX - 1, 2)));
    }

    #[test]
    fn a_counter_never_wraps() {
        let mut mint = Mint {
            incarnation: LIFE,
            next_birth: 1,
        };
        let last = dot(LIFE, 0, u64::MAX);
        let next = mint.mint(Some(last), &vector(&[last]));
        assert_eq!(next, Some(dot(LIFE, 1, 1)));
    }

    #[test]
    fn an_unborn_actor_of_this_life_is_somebody_else() {
        let mut mint = Mint::new(LIFE);
        let stranger = vector(&[dot(LIFE, 0, 9), dot(Incarnation(80), 4, 1)]);
        assert_eq!(mint.mint(None, &stranger), None);
        assert_eq!(mint.next_birth, 0);
    }
}
