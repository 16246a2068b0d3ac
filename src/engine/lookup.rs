//! Questions that the disk must answer: the entry of one key, the entries behind a key.

use super::damage::{Bad, BadFile, Spot};
use super::entry::{Entry, GroupNumber};
use super::key::{Key, KeyRef};
use super::outcome::{Lookup, Unsure};
use super::probe::Probe;
use super::runs::{Run, Runs};
use super::shell::Shell;
use super::table::{Cursor, TableEntry};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::Bound;
use std::rc::Rc;

impl Shell {
    /// As `Engine::lookup_slow`.
    pub(super) async fn lookup_slow(&self, key: KeyRef<'_>) -> Lookup {
        self.runtime.yield_now().await;
        let (found, runs) = {
            let mut state = self.state.borrow_mut();
            (state.lookup(key), state.runs())
        };
        let found = match found {
            Lookup::MustRead => self.read_tables(&runs, key).await,
            found => found,
        };
        // The log may have been poisoned meanwhile: then nothing is said of any key.
        match self.state.borrow().unsure(key) {
            Some(unsure) => Lookup::Unsure(unsure),
            None => found,
        }
    }

    async fn read_tables(&self, runs: &Runs, key: KeyRef<'_>) -> Lookup {
        let mut probe = Probe::new(runs, key);
        while let Some((table, name)) = probe.wanted() {
            let cached = self.state.borrow_mut().cached_block(name);
            let block = match cached {
                Some(block) => block,
                None => match table.read_block(name, false).await {
                    Ok(block) => {
                        self.state.borrow_mut().cache_block(name, block.clone());
                        block
                    }
                    Err(bad) => return Lookup::Unsure(self.note(bad)),
                },
            };
            match probe.on_block(key, &block) {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(bad) => return Lookup::Unsure(self.note(bad)),
            }
        }
        Lookup::Absent
    }

    /// As `Engine::scan`.
    pub(super) async fn scan(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Rc<Entry>)>, Unsure> {
        let (mut found, runs): (BTreeMap<Key, Rc<Entry>>, _) = {
            let state = self.state.borrow();
            let memory = state.scan_memory(after, limit);
            (memory.into_iter().collect(), state.runs())
        };
        let mut merged = Merged::new(runs.iter(), after);
        for _ in 0..limit {
            let next = merged.next().await.map_err(|bad| self.note(bad))?;
            let Some((key, entry)) = next else {
                break;
            };
            let entry = || {
                Rc::new(Entry {
                    object: Rc::new(entry.object),
                    mine: entry.mine,
                    group: GroupNumber(0),
                })
            };
            found.entry(key).or_insert_with(entry);
            if self.runtime.should_yield() {
                self.runtime.yield_now().await;
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }
}

/// The entries of one run in key order.
struct RunCursor {
    tables: VecDeque<Cursor>,
}

impl RunCursor {
    fn new(run: &Run, after: Option<&Key>) -> RunCursor {
        let from = || after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let first = after.map_or(0, |key| {
            run.tables
                .partition_point(|table| table.summary().last < key.position)
        });
        let tables = run.tables[first..].iter();
        RunCursor {
            tables: tables
                .map(|table| Cursor::new(table.clone(), from()))
                .collect(),
        }
    }

    /// The tables of the run are not what was written together.
    fn out_of_order(&self) -> Bad {
        let table = self.tables.front().map(|cursor| cursor.table().summary());
        let spot = Spot {
            file: BadFile::Table(table.map_or(0, |table| table.number)),
            offset: 0,
            bytes: table.map_or(0, |table| table.bytes),
        };
        Bad::checksum(spot, "the tables of a run are out of order", None)
    }

    async fn next(&mut self) -> Result<Option<(Key, TableEntry)>, Bad> {
        while let Some(table) = self.tables.front_mut() {
            if let Some(found) = table.next().await? {
                return Ok(Some(found));
            }
            self.tables.pop_front();
        }
        Ok(None)
    }
}

/// The newest entry of each key of some runs, in key order.
pub(super) struct Merged {
    /// Newest first, each with its next entry.
    runs: Vec<(RunCursor, Option<(Key, TableEntry)>)>,
    started: bool,
    last: Option<Key>,
}

impl Merged {
    /// `runs`: newest first. Entries behind `after`.
    pub(super) fn new<'a>(runs: impl Iterator<Item = &'a Run>, after: Option<&Key>) -> Merged {
        Merged {
            runs: runs.map(|run| (RunCursor::new(run, after), None)).collect(),
            started: false,
            last: None,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Key, TableEntry)>, Bad> {
        if !self.started {
            for (cursor, head) in &mut self.runs {
                *head = cursor.next().await?;
            }
            self.started = true;
        }
        let heads = self.runs.iter().enumerate();
        let heads = heads.filter_map(|(nth, (_, head))| head.as_ref().map(|(key, _)| (key, nth)));
        // Of one key the newest, which is that of the first run.
        let Some((_, newest)) = heads.min() else {
            return Ok(None);
        };
        let found = self.runs[newest].1.take().expect("it was just looked at");
        // Only damage puts the tables of a run out of order.
        if self.last.as_ref().is_some_and(|last| *last >= found.0) {
            return Err(self.runs[newest].0.out_of_order());
        }
        self.last = Some(found.0.clone());
        for (cursor, head) in &mut self.runs {
            if head.as_ref().is_none_or(|(key, _)| *key == found.0) {
                *head = cursor.next().await?;
            }
        }
        Ok(Some(found))
    }
}
