//! Read, merge, write, until no value of somebody else is left beside ours.

use super::answer::{Found, Sibling};
use super::ask::Put;
use super::blocking::Client;
use super::error::ClientError;
use crate::wire::message::Status;

/// How often an update merges at most before it leaves the rest to the next reader.
const ROUNDS_MAX: u32 = 16;

/// What became of an update: it is stored durably in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The values that the key was last seen with: one, unless others wrote in every round.
    pub found: Found,
    /// How often `merge` was called.
    pub rounds: u32,
}

impl Client {
    /// Changes the value of `key` in a way that loses no write of others: gets its siblings, calls `merge` with
    /// them, puts the result by the context of that get, and looks again. If others wrote meanwhile, and so there are
    /// several values again, it goes on with those, 16 times at most.
    ///
    /// `merge` makes one value of all siblings (none: the key has no value) with the change in it. From the second call
    /// on what it made before is among the siblings or superseded, so a change that is there must not be made again:
    /// add an element to a set, set a field, raise a maximum. To count, keep a number for each writer.
    ///
    /// # Errors
    /// As [`put`](Client::put). After [`OutcomeUnknown`](ClientError::OutcomeUnknown) the whole update may be repeated,
    /// since `merge` finds its change there or makes it. A sibling whose value is lost is refused with
    /// [`Status::ValueLost`]: a merge would drop it.
    pub fn update(
        &self,
        key: &[u8],
        mut merge: impl FnMut(&[Sibling]) -> Vec<u8>,
    ) -> Result<Updated, ClientError> {
        let mut found = self.get(key)?;
        let mut rounds = 0;
        loop {
            if found.siblings.iter().any(|sibling| sibling.lost) {
                return Err(ClientError::Refused {
                    status: Status::ValueLost,
                    message: "a value of the key cannot be read, and a merge without it would drop it: put one with \
                              the context of a get to do so"
                        .to_owned(),
                });
            }
            let merged = merge(&found.siblings);
            rounds += 1;
            self.put(key, &merged, &Put::with_context(&found.context))?;
            found = self.get(key)?;
            if found.siblings.len() < 2 || rounds == ROUNDS_MAX {
                return Ok(Updated { found, rounds });
            }
        }
    }
}
