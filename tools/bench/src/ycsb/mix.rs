//! Which operation comes next (`DiscreteGenerator` over the proportions of a workload).

use super::draws::Draws;

/// What is done to one record, named as YCSB names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Read,
    Update,
    Insert,
    ReadModifyWrite,
}

impl Kind {
    pub const ALL: [Kind; 4] = [
        Kind::Read,
        Kind::Update,
        Kind::Insert,
        Kind::ReadModifyWrite,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "READ",
            Kind::Update => "UPDATE",
            Kind::Insert => "INSERT",
            Kind::ReadModifyWrite => "READ-MODIFY-WRITE",
        }
    }
}

/// Weights; they need not sum up to one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    pub read: f64,
    pub update: f64,
    pub insert: f64,
    pub read_modify_write: f64,
}

impl Mix {
    pub fn sum(&self) -> f64 {
        self.read + self.update + self.insert + self.read_modify_write
    }

    pub fn draw(&self, draws: &mut Draws) -> Kind {
        let mut at = draws.unit() * self.sum();
        let weights = [self.read, self.update, self.insert, self.read_modify_write];
        let mut last = Kind::Read;
        for (kind, weight) in Kind::ALL
            .into_iter()
            .zip(weights)
            .filter(|(_, weight)| *weight > 0.0)
        {
            if at < weight {
                return kind;
            }
            at -= weight;
            // What rounding leaves over belongs to the last.
            last = kind;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_in_their_proportions() {
        let mix = Mix {
            read: 0.5,
            update: 0.0,
            insert: 0.25,
            read_modify_write: 0.25,
        };
        let mut draws = Draws::new(3);
        let mut counts = [0; 4];
        for _ in 0..100_000 {
            counts[mix.draw(&mut draws) as usize] += 1;
        }
        for (count, wanted) in counts.into_iter().zip([50_000, 0, 25_000, 25_000i32]) {
            assert!((count - wanted).abs() <= wanted / 20, "{counts:?}");
        }
    }
}
