//! Entries in memory: a look-up, the first insert of a key, and an insert that replaces.

mod common;

use armilla::engine::bench::Memtable;
use armilla::ring::position::Position;
use common::{entry, keys};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const KEYS: u64 = 100_000;
/// Coprime to the number of keys: a walk over all of them that no cache foresees.
const STRIDE: usize = 61_803;

fn memtable(c: &mut Criterion) {
    let keys = keys(KEYS);
    let mut nth = 0;
    let mut next = || {
        nth = (nth + STRIDE) % keys.len();
        &keys[nth]
    };
    let mut full = Memtable::default();
    c.bench_function("memtable insert", |b| {
        b.iter(|| {
            // A walk over all keys: each is new once, then memory is empty again.
            if full.keys() == KEYS {
                full = Memtable::default();
            }
            full.insert(next().as_ref(), entry(1));
        })
    });
    keys.iter()
        .for_each(|key| full.insert(key.as_ref(), entry(0)));
    c.bench_function("memtable replace", |b| {
        b.iter(|| full.insert(next().as_ref(), entry(2)))
    });
    c.bench_function("memtable lookup", |b| {
        b.iter(|| black_box(full.get(next().as_ref())).is_some())
    });
    c.bench_function("memtable lookup of an absent key", |b| {
        b.iter(|| {
            let mut key = next().as_ref();
            key.position = Position(key.position.0 ^ 1);
            black_box(full.get(key)).is_some()
        })
    });
}

criterion_group!(benches, memtable);
criterion_main!(benches);
