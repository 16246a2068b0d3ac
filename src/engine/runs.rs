//! The tables of a shard. A run is a set of tables whose keys do not overlap; of two runs the one with the higher
//! number holds the newer entries. Entries are whole, so the newest one that is found answers.

use super::damage::BadFile;
use super::table::Table;
use crate::ring::position::Position;
use std::rc::Rc;

#[derive(Clone)]
pub struct Run {
    pub number: u64,
    /// In key order; two neighbours may share a position, never a key.
    pub tables: Vec<Rc<Table>>,
}

/// Newest first. Never changed: who reads goes on with the runs that there were when it began.
#[derive(Clone, Default)]
pub struct Runs {
    runs: Vec<Run>,
}

impl Run {
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.summary().bytes).sum()
    }

    pub fn has(&self, file: BadFile) -> bool {
        let mut tables = self.tables.iter();
        tables.any(|table| BadFile::Table(table.summary().number) == file)
    }
}

impl Runs {
    /// In any order.
    pub fn new(mut runs: Vec<Run>) -> Runs {
        runs.sort_by_key(|run| std::cmp::Reverse(run.number));
        Runs { runs }
    }

    /// These with `merged` in the place of the runs named `gone`.
    pub fn replace(&self, gone: &[u64], merged: Run) -> Runs {
        let kept = self.runs.iter().filter(|run| !gone.contains(&run.number));
        Runs::new(kept.cloned().chain([merged]).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The number of the next run that holds entries newer than all these.
    pub fn next_number(&self) -> u64 {
        self.runs.first().map_or(1, |run| run.number + 1)
    }

    pub fn tables(&self) -> impl Iterator<Item = &Rc<Table>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }

    pub fn table(&self, number: u32) -> Option<&Rc<Table>> {
        self.tables().find(|table| table.id().number == number)
    }

    /// The tables that may hold the position, those with newer entries first.
    pub fn candidates(&self, position: Position) -> impl Iterator<Item = &Rc<Table>> {
        self.runs.iter().flat_map(move |run| {
            let from = run
                .tables
                .partition_point(|table| table.summary().last < position);
            let in_range = run.tables[from..].iter();
            in_range
                .take_while(move |table| table.summary().first <= position)
                .filter(move |table| table.may_hold(position))
        })
    }

    pub fn entries(&self) -> u64 {
        self.tables().map(|table| table.summary().entries).sum()
    }

    /// On disk.
    pub fn bytes(&self) -> u64 {
        self.tables().map(|table| table.summary().bytes).sum()
    }

    pub fn memory_bytes(&self) -> usize {
        self.tables().map(|table| table.memory_bytes()).sum()
    }
}
