//! What a thread of the driver does: which operation next, which requests it takes, and what their answers mean.

use crate::record::Sequence;
use crate::session::{Answer, Ask};
use crate::stats::Recorder;
use crate::ycsb::mix::Kind;
use std::io;
use std::time::Instant;

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Get,
    Put,
}

/// An operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub kind: Kind,
    pub stage: Stage,
    pub number: u64,
    /// Of an operation that writes: what its put is known by.
    pub sequence: Sequence,
    /// What a get must show.
    pub at_least: Option<Sequence>,
    /// Where the plan keeps what is to be put, once a get has answered.
    pub draft: Option<u32>,
    /// Of the value put, for the file of acknowledged puts.
    pub bytes: usize,
    pub checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Begin(Task),
    /// Nothing can be sent now; something can when an operation in flight ends.
    Wait,
    /// Nothing is left to send.
    Done,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    Answered(Answer<'a>),
    /// It was sent, and its connection broke or was given up.
    Lost(&'a str),
    /// It never left: nothing was changed.
    NotSent(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The operation is over.
    Over,
    /// It goes on with another request.
    Next(Task),
}

#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the operation should have begun.
    pub intended: Instant,
    /// When its first request was sent.
    pub began: Instant,
    /// When this one was.
    pub sent: Instant,
    pub now: Instant,
}

pub trait Plan {
    /// The next operation for a connection that may ask for keys of the `wanted` numbers; `counts` is false while the
    /// run warms up.
    fn choose(&mut self, counts: bool, wanted: &dyn Fn(u64) -> bool) -> Choice;

    /// The request of this stage.
    fn ask(&mut self, task: &mut Task) -> Ask<'_>;

    fn ended(
        &mut self,
        task: Task,
        ending: Ending<'_>,
        times: &Times,
        recorder: &mut Recorder,
    ) -> After;

    /// After each turn of the loop.
    fn turn(&mut self) -> io::Result<()>;
}
