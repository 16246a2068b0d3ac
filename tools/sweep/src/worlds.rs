//! The worlds that can be swept, and what each run of one gives.

use armilla::base::planted::Planted;
use armilla::sim::{cluster, hostile, world};
use serde::{Deserialize, Serialize};

/// What is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// One node.
    #[default]
    Node,
    /// Several, which form a ring.
    Cluster,
    /// One, which others join.
    Growing,
}

/// What came of a seed.
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    pub lives: u64,
    pub mints: u64,
    pub operations: u64,
    pub crashes: u64,
    pub partitions: u64,
    /// All of it, for eyes.
    pub told: String,
}

impl World {
    pub fn run(self, seed: u64, operations: u64, planted: Option<Planted>) -> Outcome {
        match self {
            World::Node => {
                let verdict = world::run(&world::Plan {
                    seed,
                    operations,
                    planted,
                });
                Outcome {
                    seed,
                    lives: verdict.lives,
                    mints: verdict.mints as u64,
                    operations: verdict.operations,
                    // Each life but the last one ends badly.
                    crashes: verdict.lives.saturating_sub(1),
                    partitions: 0,
                    told: format!("{verdict:#?}"),
                    violations: verdict.violations,
                }
            }
            World::Cluster | World::Growing => {
                let verdict = cluster::run(&cluster::Plan {
                    seed,
                    operations,
                    planted,
                    grows: self == World::Growing,
                });
                Outcome {
                    seed,
                    lives: verdict.lives,
                    mints: verdict.mints as u64,
                    operations: verdict.operations,
                    crashes: verdict.crashes,
                    partitions: verdict.partitions,
                    told: format!("{verdict:#?}"),
                    violations: verdict.violations,
                }
            }
        }
    }
}

/// Runs a seed of the world that a planted bug shows in.
pub fn judge(bug: Planted, seed: u64, operations: u64) -> Vec<String> {
    if let Some(scenario) = hostile::scenario_of(bug) {
        return hostile::judge(scenario, seed, Some(bug));
    }
    of(bug).run(seed, operations, Some(bug)).violations
}

/// The world that a planted bug shows in.
pub fn of(bug: Planted) -> World {
    match cluster::judges(bug) {
        true if cluster::judges_in_growth(bug) => World::Growing,
        true => World::Cluster,
        false => World::Node,
    }
}
