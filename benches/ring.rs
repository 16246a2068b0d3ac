//! What a request pays to know who holds its key, and what a change of members costs.
//!
//! `cargo bench --bench ring`; `-- --test` runs each once.

use armilla::ring::claim::{form, plan};
use armilla::ring::member::{Member, NodeId};
use armilla::ring::owners::MemberIndex;
use armilla::ring::position::Position;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn members(count: u64) -> Vec<Member> {
    let member = |id: u64| Member {
        id: NodeId(u128::from(id)),
        address: ([10, 0, (id >> 8) as u8, id as u8], 7700).into(),
        weight: 100,
        zone: format!("z{}", id % 3),
        shards: 2,
    };
    (0..count).map(member).collect()
}

fn benches(criterion: &mut Criterion) {
    let ring = form(1, 1024, 3, members(30)).expect("a ring of thirty");
    let key = [7u8; 32];
    criterion.bench_function("lookup and preference list", |bencher| {
        bencher.iter(|| {
            let position = Position::of(b"default", black_box(&key));
            let list = ring.preference_list(ring.virtual_node(position), 3);
            list.iter().map(|index| index.0).sum::<u16>()
        });
    });
    criterion.bench_function("the first fallback", |bencher| {
        bencher.iter(|| -> Option<MemberIndex> {
            let position = Position::of(b"default", black_box(&key));
            ring.fallbacks(ring.virtual_node(position), 3).next()
        });
    });
    let hundred = form(1, 1024, 3, members(100)).expect("a ring of a hundred");
    criterion.bench_function("plan a join to a hundred nodes", |bencher| {
        bencher.iter(|| plan(&hundred, members(101)).expect("it holds together"));
    });
}

criterion_group!(all, benches);
criterion_main!(all);
