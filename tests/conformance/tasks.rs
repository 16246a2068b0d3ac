//! Tasks, time and randomness.

use armilla::runtime::notify::Notify;
use armilla::runtime::time::timeout;
use armilla::runtime::{Queue, Runtime};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

pub async fn sleep_and_timeout(runtime: &Runtime) {
    let begin = runtime.now();
    let time = Duration::from_millis(5);
    runtime.sleep(time).await;
    let slept = runtime.now().0 - begin.0;
    assert!(
        u128::from(slept) >= time.as_nanos(),
        "a sleep never ends early"
    );
    assert_eq!(timeout(runtime, time, async { 7 }).await, Some(7));
    assert_eq!(timeout(runtime, time, pending::<u8>()).await, None);
    assert!(
        runtime.unix_time().0 > 1_500_000_000_000,
        "the wall clock is not at its epoch"
    );
}

pub async fn yielding_lets_others_run(runtime: &Runtime) {
    let ran = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let ran = ran.clone();
        let task = async move { ran.set(ran.get() + 1) };
        runtime.spawn(Queue::Foreground, task);
    }
    for _ in 0..100 {
        runtime.yield_now().await;
    }
    assert_eq!(ran.get(), 3);
}

pub async fn random_numbers_differ(runtime: &Runtime) {
    let drawn: BTreeSet<u64> = (0..100).map(|_| runtime.random_u64()).collect();
    assert_eq!(drawn.len(), 100);
}

pub async fn queues_all_run(runtime: &Runtime) {
    let queues = [
        Queue::Foreground,
        Queue::Replica,
        Queue::Background,
        Queue::Repair,
        Queue::Scrub,
    ];
    let done = Rc::new((Notify::default(), Cell::new(0)));
    for queue in queues {
        let (done, here) = (done.clone(), runtime.clone());
        runtime.spawn(queue, async move {
            here.sleep(Duration::from_millis(1)).await;
            done.1.set(done.1.get() + 1);
            done.0.notify();
        });
    }
    while done.1.get() < queues.len() {
        done.0.notified().await;
    }
}
