//! Writes a run: entries in key order, into as many tables as they need.

use super::entry::Place;
use super::key::KeyRef;
use super::manifest::TableRow;
use super::manifest_codec::Edit;
use super::outcome::OpenError;
use super::runs::Run;
use super::shell::Shell;
use super::table::{self, Summary, Table, TableId, TableWriter};
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::runtime::disk::{DiskCause, DiskError};
use std::rc::Rc;

/// Why tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Flush,
    Merge,
}

pub struct RunWriter<'a> {
    shell: &'a Shell,
    cause: Cause,
    open: Option<TableWriter>,
    /// Numbers of all tables that were begun.
    begun: Vec<u32>,
    finished: Vec<Summary>,
}

/// Durable tables that no manifest names yet.
pub struct NewTables {
    tables: Vec<Rc<Table>>,
}

impl NewTables {
    /// The edits that make them part of the run.
    pub fn edits(&self, run: u64) -> impl Iterator<Item = Edit> {
        self.tables.iter().map(move |table| {
            let summary = table.summary();
            Edit::Table(TableRow {
                number: summary.number,
                run,
                bytes: summary.bytes,
                footer_crc: summary.footer_crc,
            })
        })
    }

    pub fn into_run(self, number: u64) -> Run {
        Run {
            number,
            tables: self.tables,
        }
    }
}

impl<'a> RunWriter<'a> {
    pub fn new(shell: &'a Shell, cause: Cause) -> RunWriter<'a> {
        RunWriter {
            shell,
            cause,
            open: None,
            begun: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Keys come in ascending order, each once.
    pub async fn add(
        &mut self,
        key: KeyRef<'_>,
        object: &Object<Place>,
        mine: Option<Dot>,
    ) -> Result<(), DiskError> {
        if self.open.is_none() {
            let id = self.shell.next_table().ok_or_else(no_number)?;
            self.begun.push(id.number);
            self.open = Some(TableWriter::create(self.shell.disk(), id).await?);
        }
        let table = self.open.as_mut().expect("it was just begun");
        table.add(key, object, mine);
        table.write_full().await?;
        if table.is_full() {
            self.finish_table().await?;
        }
        Ok(())
    }

    async fn finish_table(&mut self) -> Result<(), DiskError> {
        if let Some(table) = self.open.take() {
            let summary = table.finish().await?;
            self.shell.on_table_written(self.cause, summary.bytes);
            self.finished.push(summary);
        }
        Ok(())
    }

    /// Makes them durable, and reads back what says where their blocks are.
    pub async fn finish(&mut self) -> Result<NewTables, DiskError> {
        self.finish_table().await?;
        let mut tables = Vec::new();
        for summary in &self.finished {
            let log = self.shell.log();
            let id = TableId {
                identity: log.identity,
                shard: log.shard,
                number: summary.number,
            };
            let table = Table::open(self.shell.disk(), id, summary.bytes, summary.footer_crc).await;
            tables.push(Rc::new(table.map_err(unreadable)?));
        }
        Ok(NewTables { tables })
    }

    /// Removes what was begun: no manifest names it, and none will. What cannot be removed is rubbish to the next
    /// start.
    pub async fn abandon(self) {
        for number in self.begun {
            let _ = self.shell.disk().remove(&table::name(number)).await;
        }
    }
}

/// As good as a full disk: nothing is written, and what is there can be read.
fn no_number() -> DiskError {
    DiskError {
        verb: "number",
        name: table::DIRECTORY.to_string(),
        cause: DiskCause::NoSpace,
    }
}

/// What was just written cannot be read back: the disk fails.
fn unreadable(error: OpenError) -> DiskError {
    match error {
        OpenError::Disk(error) => error,
        OpenError::Damaged { name, .. }
        | OpenError::NewerFormat { name, .. }
        | OpenError::OlderFormat { name, .. } => DiskError {
            verb: "read back",
            name,
            cause: DiskCause::Os(libc::EIO),
        },
    }
}
