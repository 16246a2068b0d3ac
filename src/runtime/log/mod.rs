//! What an operator is told: one line an event, on standard error, written by a thread of its own.
//!
//! A shard hands over a plain value and goes on: nothing is written, and nothing waits, on its thread. The queue to the
//! log thread is bounded; what finds it full is counted, and the log says how many lines are missing. Under simulation
//! events go into the trace. Not the `tracing` crate: its one dispatcher a process knows nothing of simulated ones.

mod line;
mod seldom;
mod writer;

pub use line::Format;
pub use seldom::Seldom;
pub use writer::{emit, finish, is_told, start};

use std::fmt;
use std::str::FromStr;

/// How much an operator should care; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something does not work, and will not by itself.
    Error,
    /// Something works less well than it should.
    Warn,
    /// Landmarks of a life.
    Info,
    /// Each connection and the like.
    Debug,
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write error, warn, info or debug")]
pub struct NoLevel;

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Level, NoLevel> {
        let found = Level::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or(NoLevel)
    }
}

/// One line of the log. Made rarely: it may allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub level: Level,
    /// For programs; frozen, as are the names of the fields.
    pub name: &'static str,
    /// For people: what happened, and what to do. One line.
    pub message: String,
    pub fields: Vec<(&'static str, Field)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Number(u64),
    Text(String),
}

impl Event {
    pub fn new(level: Level, name: &'static str, message: impl Into<String>) -> Event {
        Event {
            level,
            name,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Field>) -> Event {
        self.fields.push((name, value.into()));
        self
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Field {
        Field::Number(number)
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::Text(text)
    }
}
