//! Tables: the search of a key in blocks that are in memory, and what their filter costs.

mod common;

use armilla::base::limits::PAGE_BYTES;
use armilla::engine::bench::{Filter, FilterBuilder, open};
use armilla::engine::table::{Builder, Search, TableId};
use armilla::ring::position::Position;
use common::{keys, object, place};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const KEYS: u64 = 100_000;
/// Coprime to the number of keys: a walk over all of them that no cache foresees.
const STRIDE: usize = 61_803;
const ID: TableId = TableId {
    identity: 1,
    shard: 0,
    number: 1,
};

fn search(c: &mut Criterion) {
    let keys = keys(KEYS);
    let mut builder = Builder::new(ID);
    for (nth, key) in keys.iter().enumerate() {
        builder.add(key.as_ref(), &object(place(nth as u32)), None);
    }
    let (file, contents) = open(builder, ID);
    let mut nth = 0;
    c.bench_function("table search", |b| {
        b.iter(|| {
            nth = (nth + STRIDE) % keys.len();
            let key = keys[nth].as_ref();
            let found = contents.blocks(key.position).any(|block| {
                let bytes = &file[block.page as usize * PAGE_BYTES..];
                let bytes = &bytes[..block.pages as usize * PAGE_BYTES];
                let found = contents.search(bytes, key).expect("it was just built");
                matches!(found, Search::Found(_))
            });
            assert!(found);
        })
    });
    c.bench_function("table verify, a block", |b| {
        let block = contents.block_name(0);
        let bytes = &file[..block.pages as usize * PAGE_BYTES];
        b.iter(|| contents.verify(block, black_box(bytes)).is_ok())
    });
}

fn filter(c: &mut Criterion) {
    let keys = keys(KEYS);
    let build = || {
        let mut builder = FilterBuilder::default();
        keys.iter().for_each(|key| builder.add(key.position));
        builder.finish()
    };
    c.bench_function("filter build, 100000 positions", |b| b.iter(build));
    let (parts, bytes) = build();
    let (filter, _) = Filter::decode(&bytes, parts as usize).expect("it was just built");
    let mut nth = 0;
    let mut next = || {
        nth = (nth + STRIDE) % keys.len();
        keys[nth].position
    };
    c.bench_function("filter, a position that is there", |b| {
        b.iter(|| filter.may_hold(black_box(next())))
    });
    c.bench_function("filter, one that is not", |b| {
        b.iter(|| filter.may_hold(black_box(Position(next().0 ^ 1))))
    });
}

criterion_group!(table, search, filter);
criterion_main!(table);
