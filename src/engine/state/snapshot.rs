//! The state's part in a snapshot: what belongs to an image of this moment.

use super::State;
use crate::engine::log::segment::Segment;
use crate::engine::manifest::State as ManifestState;
use crate::engine::manifest_codec::Edit;
use crate::runtime::disk::File;

/// What a start needs to be where this shard is now.
pub struct Image {
    pub state: ManifestState,
    /// Segments that are written to, with their files, up to where the image goes: nothing behind that is of it.
    pub open: Vec<(Segment, File, u64)>,
    /// Those that are never written to again.
    pub closed: Vec<u32>,
}

impl State {
    /// `named`: what the manifest says now. All that is durable is in the image, and nothing that is not.
    pub fn image(&self, named: &ManifestState) -> Image {
        let mut state = named.clone();
        let mut open = Vec::new();
        // Behind the last group there are only segments that are ready.
        let last = self.written;
        let kept = last.map_or(0, |last| {
            let is_last = |one: &Segment| one.number == last.segment;
            let place = state.segments.iter().position(is_last);
            place.expect("what is replayed is kept") + 1
        });
        state.segments.truncate(kept);
        let file = |segment: &Segment| self.files[&segment.number].clone();
        if let Some((last, segment)) = last.zip(state.segments.last()) {
            open.push((*segment, file(segment), last.end));
        }
        if let Some(number) = self.cold.open() {
            let end = self.ends.get(&number).or(self.sealed.get(&number));
            match end.copied() {
                Some(sealed) => {
                    let segment = state.cold.iter().find(|one| one.number == number);
                    let segment = segment.expect("the manifest names what is open");
                    open.push((*segment, file(segment), sealed.end));
                    state.apply(&Edit::Sealed(sealed));
                }
                None => state.apply(&Edit::RemoveSegment(number)),
            }
        }
        let is_open = |number: u32| open.iter().any(|(segment, ..)| segment.number == number);
        let numbers = state.all_segments().map(|segment| segment.number);
        let closed = numbers.filter(|&number| !is_open(number)).collect();
        Image {
            state,
            open,
            closed,
        }
    }
}
