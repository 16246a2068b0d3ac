//! Places of files that could not be read as what was written there. An error that a reader meets is answered, and it
//! is noted here: the two are one step, so that none is lost.

use super::log::segment;
use super::outcome::Unsure;
use super::table;
use crate::base::limits::{DAMAGED_PLACES_MAX, PAGE_BYTES};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BadFile {
    Table(u32),
    Segment(u32),
}

impl BadFile {
    /// Its name under the data directory.
    pub fn name(self) -> String {
        match self {
            BadFile::Table(number) => table::name(number),
            BadFile::Segment(number) => segment::name(number),
        }
    }
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub file: BadFile,
    pub offset: u64,
    pub bytes: u64,
}

/// The checksum that bytes carry, and the one that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    pub stated: u32,
    pub found: u32,
}

/// A place that could not be read. It becomes an answer by being noted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an error that is not noted is lost"]
pub struct Bad {
    pub spot: Spot,
    pub what: String,
    pub sums: Option<Sums>,
    unsure: Unsure,
}

impl Bad {
    /// The bytes are not what was written.
    pub fn checksum(spot: Spot, what: &str, sums: Option<Sums>) -> Bad {
        Bad {
            spot,
            what: what.to_owned(),
            sums,
            unsure: Unsure::Checksum,
        }
    }

    /// The disk did not give the bytes.
    pub fn read(spot: Spot, error: &impl Display) -> Bad {
        Bad {
            spot,
            what: error.to_string(),
            sums: None,
            unsure: Unsure::Read,
        }
    }

    pub fn block(name: table::BlockName) -> Spot {
        Spot {
            file: BadFile::Table(name.table),
            offset: u64::from(name.page) * PAGE_BYTES as u64,
            bytes: u64::from(name.pages) * PAGE_BYTES as u64,
        }
    }

    #[cfg(test)]
    pub fn unsure(&self) -> Unsure {
        self.unsure
    }
}

/// What an operator should hear of, once each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Met for the first time in this life.
    Unreadable(Bad),
    /// A segment is not collected in this life.
    SegmentStuck { segment: u32, why: String },
    /// Runs that are not merged in this life.
    MergeStuck { runs: u64 },
}

/// A place that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub spot: Spot,
    /// Empty: an earlier life met it, this one has not yet.
    pub what: String,
    /// In this life.
    pub met: u64,
    /// There is a note of it in the quarantine.
    pub recorded: bool,
}

/// All that is known to be damaged; counts are of this life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub places: Vec<Known>,
    /// Reads that met an unreadable place.
    pub met: u64,
    /// Of them those at places beyond the number that is listed.
    pub beyond: u64,
    /// Segments that are not collected, and why.
    pub stuck: Vec<(u32, String)>,
    pub runs_stuck: u64,
    /// Arcs that answer "unsure", since a group of the log was lost that may have been of them.
    pub arcs_unsure: u64,
}

#[derive(Default)]
pub struct Damage {
    places: BTreeMap<Spot, Known>,
    met: u64,
    beyond: u64,
    stuck: BTreeMap<u32, String>,
    runs_stuck: u64,
    news: VecDeque<News>,
}

impl Damage {
    /// What earlier lives noted.
    pub fn of_earlier_lives(spots: Vec<Spot>) -> Damage {
        let known = |spot| {
            let known = Known {
                spot,
                what: String::new(),
                met: 0,
                recorded: true,
            };
            (spot, known)
        };
        Damage {
            places: spots.into_iter().map(known).collect(),
            ..Damage::default()
        }
    }

    /// A reader met this: what it answers.
    pub fn note(&mut self, bad: Bad) -> Unsure {
        let unsure = bad.unsure;
        self.met += 1;
        if !self.places.contains_key(&bad.spot) && self.places.len() >= DAMAGED_PLACES_MAX {
            self.beyond += 1;
            return unsure;
        }
        let known = self.places.entry(bad.spot).or_insert_with(|| Known {
            spot: bad.spot,
            what: String::new(),
            met: 0,
            recorded: false,
        });
        known.met += 1;
        if known.met == 1 {
            known.what.clone_from(&bad.what);
            self.news.push_back(News::Unreadable(bad));
        }
        unsure
    }

    pub fn on_recorded(&mut self, spot: Spot) {
        if let Some(known) = self.places.get_mut(&spot) {
            known.recorded = true;
        }
    }

    pub fn is_recorded(&self, spot: Spot) -> bool {
        self.places.get(&spot).is_some_and(|known| known.recorded)
    }

    pub fn on_stuck(&mut self, segment: u32, why: String) {
        let news = News::SegmentStuck {
            segment,
            why: why.clone(),
        };
        if self.stuck.insert(segment, why).is_none() {
            self.news.push_back(news);
        }
    }

    pub fn is_stuck(&self, segment: u32) -> bool {
        self.stuck.contains_key(&segment)
    }

    pub fn on_merge_stuck(&mut self, runs: u64) {
        self.runs_stuck += runs;
        self.news.push_back(News::MergeStuck { runs });
    }

    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub fn report(&self, arcs_unsure: u64) -> Report {
        Report {
            places: self.places.values().cloned().collect(),
            met: self.met,
            beyond: self.beyond,
            stuck: self
                .stuck
                .iter()
                .map(|(n, why)| (*n, why.clone()))
                .collect(),
            runs_stuck: self.runs_stuck,
            arcs_unsure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(offset: u64) -> Bad {
        let spot = Spot {
            file: BadFile::Table(7),
            offset,
            bytes: 4096,
        };
        Bad::checksum(spot, "a block fails its checksum", None)
    }

    #[test]
    fn a_place_is_news_once_and_counted_always() {
        let mut damage = Damage::default();
        for _ in 0..3 {
            assert_eq!(damage.note(bad(0)), Unsure::Checksum);
        }
        assert_eq!(damage.next_news(), Some(News::Unreadable(bad(0))));
        assert_eq!(damage.next_news(), None);
        let report = damage.report(0);
        assert_eq!(
            (report.places.len(), report.places[0].met, report.met),
            (1, 3, 3)
        );
        assert!(!report.places[0].recorded);
        damage.on_recorded(bad(0).spot);
        assert!(damage.is_recorded(bad(0).spot) && damage.report(0).places[0].recorded);
    }

    #[test]
    fn what_an_earlier_life_met_is_news_again_when_it_is_met() {
        let mut damage = Damage::of_earlier_lives(vec![bad(0).spot]);
        assert_eq!(damage.next_news(), None);
        assert_eq!(
            (damage.report(0).places.len(), damage.report(0).met),
            (1, 0)
        );
        let _ = damage.note(bad(0));
        assert_eq!(damage.next_news(), Some(News::Unreadable(bad(0))));
        assert!(damage.is_recorded(bad(0).spot));
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut damage = Damage::default();
        let count = DAMAGED_PLACES_MAX as u64 + 5;
        for n in 0..count {
            let _ = damage.note(bad(n * 4096));
        }
        let report = damage.report(0);
        assert_eq!(report.places.len(), DAMAGED_PLACES_MAX);
        assert_eq!((report.met, report.beyond), (count, 5));
    }

    #[test]
    fn a_stuck_segment_is_told_once() {
        let mut damage = Damage::default();
        damage.on_stuck(3, "why".into());
        damage.on_stuck(3, "why".into());
        assert!(matches!(
            damage.next_news(),
            Some(News::SegmentStuck { segment: 3, .. })
        ));
        assert_eq!(damage.next_news(), None);
        assert!(damage.is_stuck(3) && !damage.is_stuck(4));
    }
}
