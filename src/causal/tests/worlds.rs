//! Exhaustive small worlds: every order of a few steps of two clients, two replicas, restarts and
//! losses of one key.

use super::twin::{Cluster, Replica};

#[derive(Clone, Copy, Debug)]
enum Step {
    Get {
        client: usize,
        at: usize,
    },
    Put {
        client: usize,
        at: usize,
    },
    PutBlind {
        client: usize,
        at: usize,
    },
    Exchange {
        from: usize,
        to: usize,
    },
    Restart {
        at: usize,
    },
    /// All of the key is lost.
    Forget {
        at: usize,
        mine_too: bool,
    },
}

fn apply(cluster: &mut Cluster, step: Step) {
    match step {
        Step::Get { client, at } => cluster.get(client, at),
        Step::Put { client, at } => cluster.put(client, at, false),
        Step::PutBlind { client, at } => cluster.put(client, at, true),
        Step::Exchange { from, to } => cluster.exchange(from, to),
        Step::Restart { at } => cluster.restart(at),
        Step::Forget { at, mine_too } => cluster.forget(at, &Replica::default(), mine_too),
    }
}

/// Walks all worlds of `depth` steps from here; returns how many there were.
fn walk(cluster: &Cluster, steps: &[Step], depth: usize) -> u64 {
    if depth == 0 {
        return 1;
    }
    let mut worlds = 0;
    for &step in steps {
        let mut next = cluster.clone();
        apply(&mut next, step);
        next.check();
        worlds += walk(&next, steps, depth - 1);
    }
    worlds
}

fn clients_steps(replicas: usize) -> Vec<Step> {
    let places = (0..2).flat_map(|client| (0..replicas).map(move |at| (client, at)));
    let steps = places.flat_map(|(client, at)| {
        [
            Step::Get { client, at },
            Step::Put { client, at },
            Step::PutBlind { client, at },
        ]
    });
    steps.collect()
}

#[test]
fn two_clients_one_replica() {
    let steps = clients_steps(1);
    assert_eq!(walk(&Cluster::new(1, 2), &steps, 6), 6u64.pow(6));
}

#[test]
fn two_clients_two_replicas_that_exchange() {
    let mut steps = clients_steps(2);
    steps.push(Step::Exchange { from: 0, to: 1 });
    steps.push(Step::Exchange { from: 1, to: 0 });
    assert_eq!(walk(&Cluster::new(2, 2), &steps, 5), 14u64.pow(5));
}

/// One client is enough here: what counts is what the replica has forgotten.
#[test]
fn two_replicas_that_restart_and_forget() {
    let mut steps = vec![Step::Exchange { from: 1, to: 0 }];
    for at in 0..2 {
        steps.push(Step::Get { client: 0, at });
        steps.push(Step::Put { client: 0, at });
    }
    steps.extend([
        Step::PutBlind { client: 0, at: 0 },
        Step::Restart { at: 0 },
        Step::Forget {
            at: 0,
            mine_too: true,
        },
        Step::Forget {
            at: 0,
            mine_too: false,
        },
    ]);
    assert_eq!(walk(&Cluster::new(2, 1), &steps, 6), 9u64.pow(6));
}
