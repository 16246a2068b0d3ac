//! What goes wrong, and when: drawn from the seed, each kind on or off for a whole run.

use crate::base::rng::Rng;
use crate::runtime::simulated::faults::{DiskFaults, Faults, NetFaults, SchedulerFaults};
use std::time::Duration;

/// How one life of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Power cut: what was not synced is lost, kept or torn, sector by sector.
    PowerCut,
    /// Power cut at this many disk operations from now, whatever they are.
    PowerCutAtIo(u64),
    /// kill -9: the kernel keeps what was written.
    Kill,
    /// SIGTERM, and the node ends by itself.
    Stop,
    /// The disk fails this many operations from now; the node poisons its log; then the power goes.
    DiskError(u64),
}

/// The faults of one run.
#[derive(Clone, Debug)]
pub struct Nemesis {
    endings: Vec<Ending>,
    life_ms_max: u64,
    pub faults: Faults,
}

impl Nemesis {
    pub fn draw(rng: &mut Rng) -> Nemesis {
        let all = [
            Ending::PowerCut,
            Ending::PowerCutAtIo(0),
            Ending::Kill,
            Ending::Stop,
            Ending::DiskError(0),
        ];
        let mut endings: Vec<Ending> = all.into_iter().filter(|_| rng.chance(0.5)).collect();
        if endings.is_empty() {
            endings.push(Ending::PowerCut);
        }
        let on = |rng: &mut Rng, p: f64, most: f64| match rng.chance(p) {
            true => most * rng.below(100) as f64 / 100.0,
            false => 0.0,
        };
        let faults = Faults {
            scheduler: SchedulerFaults {
                stall: on(rng, 0.3, 0.001),
                stall_max: Duration::from_millis(20),
                delay: on(rng, 0.7, 0.5),
            },
            disk: DiskFaults {
                slow: on(rng, 0.3, 0.05),
                // Rare: a start reads every group, and fails at the first error.
                read_error: on(rng, 0.25, 0.004),
                ..DiskFaults::default()
            },
            net: NetFaults {
                loss: on(rng, 0.3, 0.02),
                reset: on(rng, 0.3, 0.005),
                half_open: on(rng, 0.2, 0.001),
                bit_flip: 0.0,
                link_delay_max: Duration::from_micros(rng.below(2_000)),
            },
        };
        Nemesis {
            endings,
            life_ms_max: 3 + rng.below(60),
            faults,
        }
    }

    /// How long the next life is, and how it ends.
    pub fn next(&self, rng: &mut Rng) -> (Duration, Ending) {
        let life = Duration::from_micros(500 + rng.below(self.life_ms_max * 1_000));
        let ending = match self.endings[rng.below(self.endings.len() as u64) as usize] {
            Ending::PowerCutAtIo(_) => Ending::PowerCutAtIo(rng.below(40)),
            Ending::DiskError(_) => Ending::DiskError(rng.below(40)),
            other => other,
        };
        (life, ending)
    }
}
