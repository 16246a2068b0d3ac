//! Damage: what the engine of a shard met on its disk, told to the operator.

use super::events;
use crate::base::units::Nanos;
use crate::engine::{DamageReport, Engine, News, quarantine_name};
use crate::runtime::Runtime;
use crate::runtime::disk::DiskError;
use crate::runtime::log::{Event, Seldom};
use serde_json::{Value, json};

/// Notes what cannot be read, and tells of it, for as long as the shard runs.
pub async fn tell(shard: u16, engine: Engine, runtime: Runtime) {
    let mut told = Told::default();
    loop {
        let (news, recorded) = engine.next_damage().await;
        if let Some(event) = told.event(shard, &news, recorded, runtime.now()) {
            runtime.log(event);
        }
    }
}

/// A disk that rots does so in many places: not each is a line.
#[derive(Default)]
struct Told {
    unreadable: Seldom,
    stuck: Seldom,
}

impl Told {
    fn event(
        &mut self,
        shard: u16,
        news: &News,
        recorded: Result<(), DiskError>,
        now: Nanos,
    ) -> Option<Event> {
        match news {
            News::Unreadable(bad) => {
                let places = self.unreadable.due(now)?;
                Some(events::unreadable(shard, bad, recorded.err(), places))
            }
            News::SegmentStuck { segment, why } => {
                let segments = self.stuck.due(now)?;
                Some(events::segment_stuck(shard, *segment, why, segments))
            }
            News::MergeStuck { runs } => Some(events::merge_stuck(shard, *runs)),
        }
    }
}

/// The report of a shard's engine as a member of its row: counts, and lists.
pub fn report(damage: &DamageReport) -> Value {
    let places: Vec<Value> = damage
        .places
        .iter()
        .map(|known| {
            let spot = known.spot;
            json!({
                "file": spot.file.name(),
                "offset": spot.offset,
                "bytes": spot.bytes,
                "what": match known.what.is_empty() {
                    true => "noted before this start, not met since",
                    false => &known.what,
                },
                "met": known.met,
                "note": known.recorded.then(|| quarantine_name(spot)),
            })
        })
        .collect();
    let stuck: Vec<Value> = damage
        .stuck
        .iter()
        .map(|(segment, why)| json!({ "file": crate::engine::segment_name(*segment), "why": why }))
        .collect();
    json!({
        "unreadable_places": damage.places.len(),
        "unreadable_reads": damage.met,
        "unreadable_reads_unlisted": damage.beyond,
        "segments_stuck": damage.stuck.len(),
        "runs_stuck": damage.runs_stuck,
        "arcs_unsure": damage.arcs_unsure,
        "places": places,
        "stuck": stuck,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_stuck_segments_are_not_a_line_each() {
        let mut told = Told::default();
        let stuck = |segment| News::SegmentStuck {
            segment,
            why: "a group of the segment cannot be read whole".into(),
        };
        let second = |n: u64| Nanos(n * 1_000_000_000);
        let first = told.event(2, &stuck(5), Ok(()), second(1)).expect("news");
        assert_eq!(first.name, "segment_stuck");
        assert!(
            first.message.contains("log/0000000005.segment"),
            "{}",
            first.message
        );
        assert_eq!(told.event(2, &stuck(6), Ok(()), second(2)), None);
        let later = told.event(2, &stuck(7), Ok(()), second(20)).expect("news");
        assert!(
            later.fields.contains(&("segments", 2u64.into())),
            "{later:?}"
        );
    }
}
