//! What a client asks for and is told, and who judges it: the seam between the simulated clients and a checker.

use super::workload::Terms;
use crate::causal::dot::Dot;
use crate::causal::version_vector::VersionVector;
use crate::replica::witness::Minted;
use crate::wire::message::Receipt;
use std::collections::BTreeMap;

/// What a write asked for, as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supersedes {
    /// All that the context's get had seen.
    Seen(VersionVector),
    Everything,
    /// Refused if a value is there.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub key: Vec<u8>,
    pub deletes: bool,
    pub supersedes: Supersedes,
    pub terms: Terms,
}

/// One sibling as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub dot: Dot,
    pub operation: u128,
    /// The bytes are those that the operation put.
    pub intact: bool,
}

/// A get that was answered with the state of its key.
#[derive(Clone, Copy, Debug)]
pub struct Got<'a> {
    pub key: &'a [u8],
    pub terms: Terms,
    pub siblings: &'a [Seen],
    /// What the context's token says.
    pub context: &'a VersionVector,
    pub receipt: Receipt,
}

/// The state of one key as a start recovered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub key: Vec<u8>,
    pub siblings: BTreeMap<Dot, u128>,
    pub vector: VersionVector,
}

/// Who hears of everything, in the order in which it happened.
pub trait Judge {
    /// What had been promised of a key when a get of it began.
    type Floor;

    /// A mint was appended; told before anything that came of it.
    fn on_minted(&mut self, minted: Minted);
    /// A client sends a write. The same id again is a retry.
    fn on_call(&mut self, id: u128, operation: Operation);
    fn on_acked(&mut self, id: u128, receipt: Receipt);
    /// A reply said that nothing was changed and nothing will be.
    fn on_refused(&mut self, id: u128);
    fn on_get_called(&self, key: &[u8]) -> Self::Floor;
    fn on_get(&mut self, got: Got<'_>, floor: &Self::Floor);
    fn violation(&mut self, what: String);
    fn violations(&self) -> &[String];
    /// How many dots were ever minted.
    fn mints(&self) -> usize;
    /// Every key that was ever minted for and may still be there.
    fn keys(&self) -> Vec<Vec<u8>>;
}
