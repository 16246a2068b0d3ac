//! Causality: joining two states of a key, and taking a write in.

use armilla::base::units::UnixMillis;
use armilla::causal::dot::{Actor, Dot, Incarnation};
use armilla::causal::object::{Kind, Object, OperationId, Sibling};
use armilla::causal::version_vector::VersionVector;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn sibling(incarnation: u64, counter: u64) -> Sibling<u64> {
    let actor = Actor {
        incarnation: Incarnation(incarnation),
        birth: 0,
    };
    Sibling {
        dot: Dot { actor, counter },
        operation: OperationId(u128::from(counter)),
        kind: Kind::Value,
        written: UnixMillis(0),
        expires: UnixMillis(0),
        value_hash: 0,
        value: counter,
    }
}

/// `count` siblings, each of an actor of its own from `first` on.
fn object(first: u64, count: u64) -> Object<u64> {
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    for incarnation in first..first + count {
        object.write(&VersionVector::default(), sibling(incarnation, 1));
    }
    object
}

fn joins(c: &mut Criterion) {
    for (name, ours, theirs) in [
        ("the same", object(1, 1), object(1, 1)),
        (
            "1 and 1 that do not know each other",
            object(1, 1),
            object(2, 1),
        ),
        ("8 and 8, half of them common", object(1, 8), object(5, 8)),
    ] {
        let mut join = |mut ours: Object<u64>| {
            ours.join(&theirs);
            ours
        };
        c.bench_function(&format!("join, {name}"), |b| {
            b.iter_batched(|| ours.clone(), &mut join, BatchSize::SmallInput)
        });
    }
}

fn writes(c: &mut Criterion) {
    let before = object(1, 1);
    let context = before.vector.clone();
    let overwrite = |mut object: Object<u64>| {
        object.write(&context, sibling(1, 2));
        object
    };
    c.bench_function("write over one sibling", |b| {
        b.iter_batched(|| before.clone(), overwrite, BatchSize::SmallInput)
    });
}

criterion_group!(join, joins, writes);
criterion_main!(join);
