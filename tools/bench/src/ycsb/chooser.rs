//! Which record an operation is about: the request distributions of `CoreWorkload`.

use super::draws::Draws;
use super::inserts::Inserts;
use super::key::fnv_hash;
use super::zipfian::Zipfian;

/// `ScrambledZipfianGenerator` draws of so many items, whose zeta at theta 0.99 is known, and scatters what it drew.
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
const SCRAMBLED_ZETA: f64 = 26.469_028_201_783_02;

/// The property `requestdistribution`, with what goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Uniform,
    Zipfian,
    Latest,
    /// `data_fraction` of the records get `operation_fraction` of the operations.
    Hotspot {
        data_fraction: f64,
        operation_fraction: f64,
    },
    /// `percentile` of the operations are about the newest `fraction` of the records.
    Exponential {
        percentile: f64,
        fraction: f64,
    },
    Sequential,
}

/// The records that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// Of this and all other processes: the next insert gets this number.
    pub count: u64,
    /// Of this process.
    pub first: u64,
    pub mine: u64,
    /// How many inserts are expected while the run goes on.
    pub inserts: u64,
}

/// Draws records for one thread.
#[derive(Clone, Debug)]
pub enum Chooser {
    Uniform {
        first: u64,
        count: u64,
    },
    Scrambled {
        zipfian: Zipfian,
        first: u64,
        count: u64,
    },
    Latest {
        zipfian: Zipfian,
    },
    Hotspot {
        first: u64,
        hot: u64,
        cold: u64,
        operation_fraction: f64,
    },
    Exponential {
        gamma: f64,
    },
    Sequential {
        first: u64,
        count: u64,
        next: u64,
        step: u64,
    },
}

impl Chooser {
    /// For thread `thread` of `threads`: sequential ones go through the records together.
    pub fn new(
        distribution: Distribution,
        records: Records,
        (thread, threads): (u64, u64),
    ) -> Chooser {
        let Records {
            count: all,
            first,
            mine: count,
            inserts,
        } = records;
        assert!(
            count > 0 && first + count <= all,
            "there are records to choose from"
        );
        match distribution {
            Distribution::Uniform => Chooser::Uniform { first, count },
            Distribution::Zipfian => Chooser::Scrambled {
                // Both bounds are inclusive there, hence one more.
                zipfian: Zipfian::with_zeta(SCRAMBLED_ITEMS + 1, SCRAMBLED_ZETA),
                first,
                // The popular records are to stay so while others are added: twice as many as are expected.
                count: count + 2 * inserts + 1,
            },
            Distribution::Latest => Chooser::Latest {
                zipfian: Zipfian::new((all - 1).max(1)),
            },
            Distribution::Hotspot {
                data_fraction,
                operation_fraction,
            } => {
                let hot = ((count as f64 * data_fraction) as u64).min(count);
                Chooser::Hotspot {
                    first,
                    hot,
                    cold: count - hot,
                    operation_fraction,
                }
            }
            Distribution::Exponential {
                percentile,
                fraction,
            } => {
                let range = all as f64 * fraction;
                Chooser::Exponential {
                    gamma: -(1.0 - percentile / 100.0).ln() / range,
                }
            }
            Distribution::Sequential => Chooser::Sequential {
                first,
                count,
                next: thread,
                step: threads,
            },
        }
    }

    /// A record that is there: inserts that have not ended are passed over.
    pub fn draw(&mut self, draws: &mut Draws, inserts: &Inserts) -> u64 {
        let last = inserts.last();
        loop {
            if let Some(number) = self.try_draw(draws, last)
                && number <= last
            {
                return number;
            }
        }
    }

    fn try_draw(&mut self, draws: &mut Draws, last: u64) -> Option<u64> {
        match self {
            Chooser::Uniform { first, count } => Some(*first + draws.below(*count)),
            Chooser::Scrambled {
                zipfian,
                first,
                count,
            } => Some(*first + fnv_hash(zipfian.item(draws.unit())) as u64 % *count),
            Chooser::Latest { .. } if last == 0 => Some(0),
            Chooser::Latest { zipfian } => last.checked_sub(zipfian.item_of(last, draws.unit())),
            Chooser::Hotspot {
                first,
                hot,
                cold,
                operation_fraction,
            } => {
                let is_hot = draws.unit() < *operation_fraction;
                Some(match (is_hot, *hot, *cold) {
                    (true, 1.., _) | (false, _, 0) => *first + draws.below(*hot),
                    _ => *first + *hot + draws.below(*cold),
                })
            }
            Chooser::Exponential { gamma } => {
                last.checked_sub((-draws.unit().ln() / *gamma) as u64)
            }
            Chooser::Sequential {
                first,
                count,
                next,
                step,
            } => {
                let number = *first + *next % *count;
                *next += *step;
                Some(number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNITS: [f64; 11] = [
        0.0, 0.03, 0.05, 0.0625, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999_999,
    ];
    const HOTSPOT: Distribution = Distribution::Hotspot {
        data_fraction: 0.2,
        operation_fraction: 0.8,
    };
    const EXPONENTIAL: Distribution = Distribution::Exponential {
        percentile: 95.0,
        fraction: 0.857_142_857_1,
    };

    fn records(count: u64) -> Records {
        Records {
            count,
            first: 0,
            mine: count,
            inserts: 0,
        }
    }

    #[test]
    fn scrambled_items_are_those_of_the_formula() {
        // `ScrambledZipfianGenerator(0, 1000)`, computed by a Python program.
        let Chooser::Scrambled {
            mut zipfian, count, ..
        } = Chooser::new(Distribution::Zipfian, records(1000), (0, 1))
        else {
            panic!("zipfian requests are scrambled");
        };
        assert_eq!(count, 1001);
        let inner = UNITS.map(|unit| zipfian.item(unit));
        let golden = [
            0,
            0,
            1,
            2,
            6,
            296,
            134_552,
            42_924_421,
            1_170_869_537,
            8_086_205_587,
            9_999_787_803,
        ];
        // The last digits of a power differ between libraries of mathematics.
        for (item, golden) in inner.into_iter().zip(golden) {
            assert!(
                item.abs_diff(golden) <= golden / 1_000_000_000,
                "{item} for {golden}"
            );
        }
        let scattered = [0u64, 1, 2, 6, 296, 134_552].map(|item| fnv_hash(item) as u64 % 1001);
        assert_eq!(scattered, [144, 610, 213, 942, 809, 367]);
    }

    #[test]
    fn the_latest_are_those_of_the_formula() {
        // `SkewedLatestGenerator` over 1000 records, then over 2000, computed by a Python program.
        let Chooser::Latest { mut zipfian } =
            Chooser::new(Distribution::Latest, records(1000), (0, 1))
        else {
            panic!("there is one for the latest");
        };
        let at = |zipfian: &mut Zipfian, last| UNITS.map(|unit| last - zipfian.item_of(last, unit));
        let golden = [999, 999, 999, 999, 999, 996, 977, 848, 528, 73, 1];
        assert_eq!(at(&mut zipfian, 999), golden);
        let golden = [1999, 1999, 1999, 1999, 1999, 1992, 1952, 1685, 1041, 142, 1];
        assert_eq!(at(&mut zipfian, 1999), golden);
    }

    #[test]
    fn shares_are_those_that_were_asked_for() {
        let inserts = Inserts::new(1000);
        let share = |distribution, hit: &dyn Fn(u64) -> bool| {
            let (mut chooser, mut draws) = (
                Chooser::new(distribution, records(1000), (0, 1)),
                Draws::new(1),
            );
            let hits = (0..20_000)
                .filter(|_| hit(chooser.draw(&mut draws, &inserts)))
                .count();
            hits as f64 / 20_000.0
        };
        let near = |value: f64, wanted: f64| {
            assert!((value - wanted).abs() < 0.02, "{value} for {wanted}")
        };
        near(share(Distribution::Uniform, &|number| number < 500), 0.5);
        near(share(HOTSPOT, &|number| number < 200), 0.8);
        // 95 % within 857 of the newest; what is beyond the oldest is drawn anew.
        near(
            share(EXPONENTIAL, &|number| number >= 999 - 857),
            0.95 / 0.97,
        );
        // The first of 10^10 items, and what the modulus puts beside it.
        near(
            share(Distribution::Zipfian, &|number| number == 144),
            1.0 / SCRAMBLED_ZETA,
        );
        near(
            share(Distribution::Latest, &|number| number == 999),
            1.0 / 7.728,
        );
    }

    #[test]
    fn sequential_threads_go_through_the_records_together() {
        let inserts = Inserts::new(10);
        let mut draws = Draws::new(1);
        let mut seen = Vec::new();
        for thread in 0..2 {
            let mut chooser = Chooser::new(Distribution::Sequential, records(10), (thread, 2));
            seen.extend((0..5).map(|_| chooser.draw(&mut draws, &inserts)));
        }
        assert_eq!(seen, [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]);
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_there(seed: u64, count in 1u64..3000, more in 0u64..50) {
            let all = [
                Distribution::Uniform, Distribution::Zipfian, Distribution::Latest, HOTSPOT, EXPONENTIAL,
                Distribution::Sequential,
            ];
            for distribution in all {
                let inserts = Inserts::new(count);
                let records = Records { inserts: more, ..records(count) };
                let (mut chooser, mut draws) = (Chooser::new(distribution, records, (0, 1)), Draws::new(seed));
                for _ in 0..more {
                    prop_assert!(chooser.draw(&mut draws, &inserts) <= inserts.last(), "{distribution:?}");
                    inserts.end(inserts.take());
                }
            }
        }
    }
}
