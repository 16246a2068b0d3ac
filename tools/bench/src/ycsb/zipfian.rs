//! Zipf's law by the method of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994).

/// The skew of YCSB: the i-th item is asked for i^0.99 times less than the first.
pub const THETA: f64 = 0.99;

/// Items 0, 1, 2, .. by their rank (`ZipfianGenerator`). Setting it up takes time in the number of items.
#[derive(Clone, Debug)]
pub struct Zipfian {
    items: u64,
    zeta: f64,
    /// Of how many items `zeta` is; it only grows.
    zeta_of: u64,
    eta: f64,
}

fn zeta(from: u64, to: u64, sum: f64) -> f64 {
    (from..to).fold(sum, |sum, i| sum + 1.0 / ((i + 1) as f64).powf(THETA))
}

impl Zipfian {
    pub fn new(items: u64) -> Zipfian {
        assert!(items > 0, "nothing can be drawn of no items");
        Zipfian::with_zeta(items, zeta(0, items, 0.0))
    }

    /// Where zeta of so many items is known.
    pub fn with_zeta(items: u64, zeta: f64) -> Zipfian {
        let mut zipfian = Zipfian {
            items,
            zeta,
            zeta_of: items,
            eta: 0.0,
        };
        zipfian.set_eta();
        zipfian
    }

    fn set_eta(&mut self) {
        // The item count that it began with, however much it grew: a quirk of YCSB, kept.
        let share = 1.0 - (2.0 / self.items as f64).powf(1.0 - THETA);
        self.eta = share / (1.0 - zeta(0, 2, 0.0) / self.zeta);
    }

    /// The item of a draw in [0, 1).
    pub fn item(&mut self, unit: f64) -> u64 {
        self.item_of(self.items, unit)
    }

    /// The item of a draw, when there are `items` by now.
    pub fn item_of(&mut self, items: u64, unit: f64) -> u64 {
        if items > self.zeta_of {
            self.zeta = zeta(self.zeta_of, items, self.zeta);
            self.zeta_of = items;
            self.set_eta();
        }
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let share = (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        (items as f64 * share) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const UNITS: [f64; 11] = [
        0.0, 0.03, 0.05, 0.0625, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999_999,
    ];

    #[test]
    fn items_are_those_of_the_formula() {
        // `ZipfianGenerator` over 1000 items, computed by a Python program.
        let mut zipfian = Zipfian::new(1000);
        assert!((zipfian.zeta - 7.728_953_217_284_729).abs() < 1e-12);
        assert!((zipfian.eta - 0.074_806_086_706_898_05).abs() < 1e-14);
        let golden = [0, 0, 0, 0, 0, 3, 22, 151, 471, 927, 999];
        assert_eq!(UNITS.map(|unit| zipfian.item(unit)), golden);
    }

    proptest! {
        #[test]
        fn items_are_in_range_and_ranks_ascend(items in 2u64..5000, unit in 0.0f64..1.0, more in 0.0f64..1.0) {
            let mut zipfian = Zipfian::new(items);
            prop_assert!(zipfian.item(unit) < items);
            let (low, high) = (unit.min(more), unit.max(more));
            prop_assert!(zipfian.item(low) <= zipfian.item(high));
            prop_assert!(zipfian.item_of(items + 10, unit) < items + 10);
        }
    }
}
