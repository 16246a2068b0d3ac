//! Not more than one line of a kind in a while.

use crate::base::limits::LOG_REPEAT_MS;
use crate::base::units::Nanos;

/// Lets one event through, then none of its kind for a while; says how many there have been.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    last: Option<Nanos>,
    since: u64,
}

impl Seldom {
    /// How many there have been since the last one that was told, this one too, if this one may be told.
    pub fn due(&mut self, now: Nanos) -> Option<u64> {
        self.since += 1;
        let pause = LOG_REPEAT_MS * 1_000_000;
        if self.last.is_some_and(|last| now.0 < last.0 + pause) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let mut seldom = Seldom::default();
        let second = 1_000_000_000;
        assert_eq!(seldom.due(Nanos(second)), Some(1));
        assert_eq!(seldom.due(Nanos(second + 1)), None);
        assert_eq!(seldom.due(Nanos(2 * second)), None);
        assert_eq!(seldom.due(Nanos(12 * second)), Some(3));
        assert_eq!(seldom.due(Nanos(13 * second)), None);
    }
}
