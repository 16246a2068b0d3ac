//! Scripted worlds of the storage: what the random ones meet too seldom.

use super::hostile::{SECOND, Stage, get, put};
use crate::base::rng::Rng;
use crate::base::units::{KIB, MIB};
use crate::engine::Sizes;
use crate::runtime::simulated::Faults;
use crate::runtime::simulated::faults::DiskFaults;
use crate::wire::message::Status;
use std::time::Duration;

const KEYS: u8 = 12;
const VALUE_BYTES: usize = 5_000;

/// Power cuts while values are overwritten and segments are given back, on a disk that is slow now and then: a key that
/// was acked once is there after each start.
pub fn overwrites(seed: u64) -> Vec<String> {
    const LIVES: u64 = 12;
    let mut rng = Rng::stream(seed, "overwrites", 0);
    let mut stage = Stage::new(seed, 64 * MIB);
    stage.options.value_bytes_max = 16 * KIB;
    stage.options.sizes = Sizes::SMALL;
    for life in 0..LIVES {
        stage.start();
        let broken = stage.play(|mut talk| async move {
            let door = talk.connect().await;
            for name in 0..KEYS {
                if life > 0 {
                    let told = talk.ask(door, get(&[name])).await;
                    if told.as_ref().map(|t| t.status) != Some(Status::Ok) {
                        talk.broken
                            .push(format!("life {life}, key {name}: {told:?}"));
                    }
                }
                talk.ask(door, put(&[name], &[name; VALUE_BYTES])).await;
            }
            talk.broken
        });
        if !broken.is_empty() {
            return broken;
        }
        let disk = DiskFaults {
            slow: 0.2,
            ..DiskFaults::default()
        };
        stage.simulation.set_faults(Faults {
            disk,
            ..Faults::default()
        });
        let rounds = rng.below(200);
        let mut names = Rng::stream(seed, "names", life);
        stage.play(|mut talk| async move {
            let mut doors = Vec::new();
            for _ in 0..8 {
                doors.push(talk.connect().await);
            }
            for _ in 0..rounds {
                for &door in &doors {
                    let name = names.below(u64::from(KEYS)) as u8;
                    if names.chance(0.3) && !talk.is_sending(door) {
                        talk.send(door, put(&[name], &[name; VALUE_BYTES]));
                    }
                }
                talk.listen(Duration::from_millis(1)).await;
            }
            talk.broken
        });
        stage.node.crash();
        stage.simulation.set_faults(Faults::default());
    }
    Vec::new()
}

/// An operator lowers the limit of values: what is larger stays, and is no hindrance to giving back what is dead.
pub fn lowered_limit(seed: u64) -> Vec<String> {
    let mut stage = Stage::new(seed, 64 * MIB);
    stage.options.sizes = Sizes::SMALL;
    stage.start();
    let mut broken = stage.play(|mut talk| async move {
        let door = talk.connect().await;
        for name in [0, 1] {
            talk.ask(door, put(&[name], &vec![name; 600 * KIB])).await;
        }
        talk.broken
    });
    stage.stop();
    stage.options.value_bytes_max = 16 * KIB;
    stage.start();
    broken.extend(stage.play(|mut talk| async move {
        let door = talk.connect().await;
        for round in 0..400 {
            let name = [2 + (round % 10) as u8];
            talk.ask(door, put(&name, &[7; 15 * KIB])).await;
        }
        talk.listen(SECOND).await;
        let report = talk.report(door).await;
        let collected = report["engine"]["segments_collected"].as_u64();
        if collected.is_none_or(|count| count < 10) {
            talk.broken
                .push(format!("{collected:?} segments were given back: {report}"));
        }
        let told = talk.ask(door, get(&[0])).await;
        if told.as_ref().map(|t| t.status) != Some(Status::Ok) {
            talk.broken.push(format!("the large value: {told:?}"));
        }
        talk.broken
    }));
    broken
}
