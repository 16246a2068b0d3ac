//! The dictionary of a table: each incarnation stands once a file, entries name it by its number.

use super::Damaged;
use crate::causal::dot::Incarnation;
use std::collections::BTreeMap;

/// Numbers incarnations in the order in which they come.
#[derive(Default)]
pub struct DictionaryBuilder {
    numbers: BTreeMap<Incarnation, u32>,
    incarnations: Vec<Incarnation>,
}

impl DictionaryBuilder {
    pub fn number(&mut self, incarnation: Incarnation) -> u32 {
        let next = self.incarnations.len() as u32;
        let number = *self.numbers.entry(incarnation).or_insert(next);
        if number == next {
            self.incarnations.push(incarnation);
        }
        number
    }

    pub fn incarnations(&self) -> &[Incarnation] {
        &self.incarnations
    }

    /// The section, without filling.
    pub fn encode(&self) -> Vec<u8> {
        let words = self.incarnations.iter();
        words.flat_map(|word| word.0.to_le_bytes()).collect()
    }
}

/// The section's incarnations; `bytes` are those of exactly `count` of them.
pub fn decode(bytes: &[u8]) -> Result<Box<[Incarnation]>, Damaged> {
    let words = bytes.chunks_exact(8);
    assert!(words.remainder().is_empty());
    let incarnations: Box<[Incarnation]> = words
        .map(|word| Incarnation(u64::from_le_bytes(word.try_into().expect("eight bytes"))))
        .collect();
    let mut sorted = incarnations.to_vec();
    sorted.sort_unstable();
    if sorted.is_sorted_by(|one, next| one < next) {
        Ok(incarnations)
    } else {
        Err(Damaged("an incarnation stands twice in its dictionary"))
    }
}
