//! The engine against a list of what was appended, on a disk that loses, fails and rots.

mod apart;
mod copies;
mod damage;
mod faults;
mod golden;
mod histories;
mod inspect;
mod scrub;
mod snapshot;
mod space;
mod tables;

use super::key::KeyRef;
use super::log::record::tests::dot;
use super::{
    AppendRefused, Engine, GroupNumber, Lookup, NewValue, OpenError, Options, Recovery, Sizes,
    Unsure,
};
use crate::base::rng::Rng;
use crate::base::units::{KIB, MIB, UnixMillis};
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::value_hash::value_hash;
use crate::causal::version_vector::VersionVector;
use crate::ring::position::Position;
use crate::runtime::simulated::{Faults, Machine, Simulation};
use crate::runtime::{Queue, Runtime};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const KEYS: u64 = 12;
const BUCKET: &[u8] = b"bucket";
const NARROW_VALUE_BYTES: usize = 8 * KIB;

/// A sibling as the list keeps it; no value is a tombstone.
type Held = (Dot, Option<Vec<u8>>);

struct Version {
    key: u8,
    siblings: Vec<Held>,
    life: u64,
    group: GroupNumber,
    acked: bool,
}

/// All that was appended and may still be there, in order: the dumb twin of a log.
#[derive(Default)]
struct Ledger {
    versions: Vec<Version>,
    lives: u64,
    minted: u64,
    /// How large things grow before they are flushed, merged, collected.
    sizes: Sizes,
    /// Values are short, and so are segments: most of them hold something that lives.
    narrow: bool,
    /// The last recovery, and how many keys it left unsure.
    recovery: Recovery,
    unsure: usize,
}

impl Ledger {
    fn ack(&mut self, life: u64, durable: GroupNumber) {
        for version in self.versions.iter_mut().filter(|v| v.life == life) {
            version.acked |= version.group <= durable;
        }
    }

    /// The newest version of a key among the first `count`.
    fn newest(&self, key: u8, count: usize) -> Option<(usize, &Version)> {
        let mut versions = self.versions.iter().enumerate().take(count);
        versions.rfind(|(_, version)| version.key == key)
    }
}

type SharedLedger = Rc<RefCell<Ledger>>;

fn options() -> Options {
    Options {
        shard: 0,
        shards: 1,
        memory_bytes: 2 * MIB,
        value_bytes_max: MIB / 4,
        disk_bytes: u64::MAX,
        scrub_bytes_per_second: 0,
        sizes: Sizes::default(),
    }
}

fn options_of(ledger: &SharedLedger) -> Options {
    Options {
        sizes: ledger.borrow().sizes,
        value_bytes_max: match ledger.borrow().narrow {
            true => NARROW_VALUE_BYTES,
            false => options().value_bytes_max,
        },
        ..options()
    }
}

fn key(name: &u8) -> KeyRef<'_> {
    let key = std::slice::from_ref(name);
    KeyRef {
        position: Position::of(BUCKET, key),
        bucket: BUCKET,
        key,
    }
}

async fn open(runtime: &Runtime, options: Options) -> Result<(Engine, Recovery), OpenError> {
    let disk = runtime.disk(Path::new("data"));
    Engine::open(runtime, &disk, options, &mut |done, total| {
        assert!(done <= total)
    })
    .await
}

/// Opens, compares everything with the ledger, and starts the loop that commits.
async fn begin(
    runtime: &Runtime,
    ledger: &SharedLedger,
    options: Options,
) -> Result<Engine, OpenError> {
    let (engine, recovery) = open(runtime, options).await?;
    let life = {
        let mut ledger = ledger.borrow_mut();
        ledger.recovery = recovery;
        ledger.lives += 1;
        ledger.lives
    };
    compare(&engine, ledger).await;
    let (loop_engine, loop_ledger) = (engine.clone(), ledger.clone());
    runtime.spawn(Queue::Foreground, async move {
        while let Ok(durable) = loop_engine.commit_next().await {
            loop_ledger.borrow_mut().ack(life, durable);
        }
    });
    Ok(engine)
}

/// What the engine holds is what was appended up to some moment behind the last ack; the rest is gone for good.
async fn compare(engine: &Engine, ledger: &SharedLedger) {
    let mut found: BTreeMap<u8, Vec<Held>> = BTreeMap::new();
    let mut unsure = Vec::new();
    for name in 0..KEYS as u8 {
        match lookup(engine, name).await {
            Lookup::Absent => {}
            Lookup::Unsure(_) => unsure.push(name),
            Lookup::MustRead => unreachable!("it was looked up on disk"),
            Lookup::Found(entry) => {
                let mut siblings = Vec::new();
                for sibling in &entry.object.siblings {
                    let value = match sibling.kind {
                        Kind::Value => {
                            let mut read = engine
                                .read_value(key(&name), sibling.dot, &sibling.value)
                                .await;
                            if read == Err(Unsure::Read) {
                                // The fault of this test: the disk is well again behind it.
                                read = engine
                                    .read_value(key(&name), sibling.dot, &sibling.value)
                                    .await;
                            }
                            if read == Err(Unsure::Poisoned) {
                                // The fault of this test struck meanwhile: the next start is the judge.
                                return;
                            }
                            Some(read.expect("its record is whole").to_vec())
                        }
                        Kind::Tombstone | Kind::ValueLost => None,
                    };
                    siblings.push((sibling.dot, value));
                }
                found.insert(name, siblings);
            }
        }
    }
    if engine.poisoned().is_some() {
        return;
    }
    let mut ledger = ledger.borrow_mut();
    ledger.unsure = unsure.len();
    let acked = ledger
        .versions
        .iter()
        .rposition(|v| v.acked)
        .map_or(0, |last| last + 1);
    let seen = ledger
        .versions
        .iter()
        .rposition(|v| found.get(&v.key) == Some(&v.siblings));
    let count = acked.max(seen.map_or(0, |last| last + 1));
    for name in (0..KEYS as u8).filter(|name| !unsure.contains(name)) {
        let expected = ledger
            .newest(name, count)
            .map(|(_, version)| &version.siblings);
        assert_eq!(
            found.get(&name),
            expected,
            "key {name}, the first {count} appends"
        );
    }
    ledger.versions.truncate(count);
    ledger
        .versions
        .iter_mut()
        .for_each(|version| version.acked = true);
}

/// What the engine knows of a key, from wherever; a disk that fails once is asked again.
async fn lookup(engine: &Engine, name: u8) -> Lookup {
    match engine.lookup(key(&name)) {
        Lookup::MustRead => match engine.lookup_slow(key(&name)).await {
            Lookup::Unsure(Unsure::Read) => engine.lookup_slow(key(&name)).await,
            found => found,
        },
        found => found,
    }
}

/// Appends a new state of a key: one new sibling, with or without those that are there.
fn append(
    engine: &Engine,
    ledger: &SharedLedger,
    name: u8,
    value: Option<&[u8]>,
    keep: bool,
) -> Result<GroupNumber, AppendRefused> {
    let found = engine.lookup(key(&name));
    append_to(engine, ledger, found, name, value, keep)
}

/// The same, with what a lookup found.
fn append_to(
    engine: &Engine,
    ledger: &SharedLedger,
    found: Lookup,
    name: u8,
    value: Option<&[u8]>,
    keep: bool,
) -> Result<GroupNumber, AppendRefused> {
    let entry = match found {
        Lookup::Found(entry) => Some(entry),
        Lookup::Absent => None,
        Lookup::Unsure(unsure) => return Err(unsure.into()),
        Lookup::MustRead => unreachable!("no table was made"),
    };
    let before = entry.clone();
    let mut ledger = ledger.borrow_mut();
    ledger.minted += 1;
    let new = dot(ledger.minted, 1);
    let count = ledger.versions.len();
    let mut siblings = Vec::new();
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    if let Some(entry) = entry.filter(|_| keep) {
        object.vector = entry.object.vector.clone();
        let kept = entry.object.siblings.iter().cloned();
        object.siblings = kept
            .map(|sibling| {
                let place = sibling.value.clone();
                sibling.with_value(NewValue::Keep(place))
            })
            .collect();
        siblings = ledger
            .newest(name, count)
            .expect("it is there")
            .1
            .siblings
            .clone();
    }
    object.vector.add(new);
    let operation = OperationId(u128::from(ledger.minted));
    object.siblings.push(Sibling {
        dot: new,
        operation,
        kind: if value.is_some() {
            Kind::Value
        } else {
            Kind::Tombstone
        },
        written: UnixMillis(ledger.minted),
        expires: UnixMillis(0),
        value_hash: value_hash(BUCKET, &[name], new, operation, value.unwrap_or_default()),
        value: value.map_or(NewValue::Keep(super::Place::Nowhere), NewValue::Put),
    });
    siblings.push((new, value.map(<[u8]>::to_vec)));
    let before = before.as_deref();
    let group = engine.append(key(&name), before, object, Some(new), UnixMillis(0))?;
    let life = ledger.lives;
    ledger.versions.push(Version {
        key: name,
        siblings,
        life,
        group,
        acked: false,
    });
    Ok(group)
}

/// Some appends with pauses among them. Stops where the log refuses for good.
async fn work(runtime: &Runtime, engine: &Engine, ledger: &SharedLedger, rng: &mut Rng, ops: u64) {
    for _ in 0..ops {
        let name = rng.below(KEYS) as u8;
        let len = match rng.below(10) {
            0..4 => rng.below(100),
            4..9 => rng.below(6000),
            _ => rng.below(200_000),
        };
        let len = match ledger.borrow().narrow {
            true => len.min(NARROW_VALUE_BYTES as u64),
            false => len,
        };
        let value = vec![rng.u64() as u8; len as usize];
        let value = (rng.below(6) > 0).then_some(value.as_slice());
        let found = lookup(engine, name).await;
        match append_to(engine, ledger, found, name, value, rng.below(3) == 0) {
            Ok(_) => {}
            Err(AppendRefused::Unsure(Unsure::Poisoned)) => return,
            Err(_) => runtime.sleep(Duration::from_millis(5)).await,
        }
        if rng.below(8) == 0 {
            tables::collect(runtime, engine).await;
        }
        match rng.below(8) {
            0..3 => runtime.yield_now().await,
            3..5 => runtime.sleep(Duration::from_micros(rng.below(800))).await,
            5 if rng.below(4) == 0 => runtime.sleep(Duration::from_millis(150)).await,
            _ => {}
        }
    }
}

/// Waits until all that was appended is durable, or the log is poisoned.
async fn settle(runtime: &Runtime, engine: &Engine, ledger: &SharedLedger) {
    while engine.poisoned().is_none() && ledger.borrow().versions.iter().any(|v| !v.acked) {
        runtime.sleep(Duration::from_millis(1)).await;
    }
}

/// Opens and compares; what a start after a fault must always do.
fn check(machine: &Machine, ledger: &SharedLedger) -> Option<Result<(), OpenError>> {
    let ledger = ledger.clone();
    machine.run(|runtime| async move {
        begin(&runtime, &ledger, options_of(&ledger)).await?;
        Ok(())
    })
}

fn world(seed: u64) -> (Simulation, Machine, SharedLedger) {
    let simulation = Simulation::new(seed, Faults::default());
    let machine = simulation.machine("node");
    (simulation, machine, SharedLedger::default())
}
