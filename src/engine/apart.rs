//! Objects whose new values do not fit one record of the log together: a join of several large siblings, or of one that
//! is larger than this node's own limit. Each value goes into a cold segment first, in a record of its own; once all of
//! them are durable, one record of the log takes the whole object, and names their places.
//!
//! So there is no state in between. Until the last step no entry names the values, and replay does not read cold
//! segments: whoever asks, and any start, finds the key as it was; behind it the whole join. Not chosen: to join the
//! siblings one by one. A vector knows the dots of each actor up to a count, so one that has seen a sibling has seen
//! all earlier writes of its actor. Some of these may live here, superseded only by a sibling that has not come yet: a
//! state with that vector would have dropped them for something that is not there, and lose an acked write if nothing
//! more came.
//!
//! What nothing names is dead to collection. So a segment is pinned while values in it wait for their entry.

use super::Engine;
use super::collection::NotCopied;
use super::entry::{Entry, GroupNumber, NewValue, Place};
use super::key::KeyRef;
use super::outcome::{AppendRefused, Unsure};
use super::shell::Shell;
use super::state::Purpose;
use crate::base::limits::INLINE_VALUE_BYTES_MAX;
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::dot::Dot;
use crate::causal::object::{Object, Sibling};
use crate::causal::version_vector::VersionVector;
use std::collections::BTreeSet;

/// Segments that are not collected until it is dropped.
struct Pins<'a> {
    shell: &'a Shell,
    segments: BTreeSet<u32>,
}

impl Pins<'_> {
    fn pin(&mut self, segment: u32) {
        if self.segments.insert(segment) {
            self.shell.state.borrow_mut().cold_mut().pin(segment);
        }
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.shell.state.borrow_mut();
        for &segment in &self.segments {
            state.cold_mut().unpin(segment);
        }
        drop(state);
        self.shell.collects.notify();
    }
}

impl From<NotCopied> for AppendRefused {
    fn from(not_copied: NotCopied) -> AppendRefused {
        match not_copied {
            NotCopied::NoRoom => AppendRefused::DiskFull,
            NotCopied::Poisoned => AppendRefused::Unsure(Unsure::Poisoned),
        }
    }
}

/// The object of a record that holds this value alone.
fn alone<'a>(sibling: &Sibling<NewValue<'a>>) -> Object<NewValue<'a>> {
    let mut vector = VersionVector::default();
    vector.add(sibling.dot);
    Object {
        vector,
        siblings: vec![sibling.clone()],
    }
}

impl Shell {
    async fn append_apart(
        &self,
        key: KeyRef<'_>,
        before: Option<&Entry>,
        mut object: Object<NewValue<'_>>,
        mine: Option<Dot>,
    ) -> Result<GroupNumber, AppendRefused> {
        let mut pins = Pins {
            shell: self,
            segments: BTreeSet::new(),
        };
        {
            let _copying = self.copying.lock().await;
            if !self.state.borrow().copies_apart() {
                return Err(AppendRefused::DiskFull);
            }
            for sibling in &mut object.siblings {
                let NewValue::Put(value) = sibling.value else {
                    continue;
                };
                if value.len() <= INLINE_VALUE_BYTES_MAX {
                    continue;
                }
                let location = self.add_copy(key, &alone(sibling)).await?;
                pins.pin(location.segment);
                self.state.borrow_mut().counters_mut().user_bytes_written += value.len() as u64;
                sibling.value = NewValue::Keep(Place::At {
                    location,
                    sibling: 0,
                    bytes: value.len() as u32,
                });
            }
            if !planted!(FlippedBeforeDurable) {
                self.write_copies().await?;
            }
        }
        mark!(StoredApart);
        // The pins end when the entry names the places.
        self.append(key, before, object, mine, Purpose::Write)
    }
}

impl Engine {
    /// The same as `append`, for an object whose new values do not fit one record together. The caller holds the key's
    /// turn since its lookup found `before`, and until this returns.
    pub async fn append_apart(
        &self,
        key: KeyRef<'_>,
        before: Option<&Entry>,
        object: Object<NewValue<'_>>,
        mine: Option<Dot>,
    ) -> Result<GroupNumber, AppendRefused> {
        self.shell.append_apart(key, before, object, mine).await
    }
}
