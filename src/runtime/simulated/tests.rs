//! The executor, time, and the promise that a seed is a run.

use super::faults::{DiskFaults, NetFaults, SchedulerFaults};
use super::*;
use crate::base::units::Nanos;
use crate::runtime::Queue;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{Open, Persist};
use crate::runtime::net::{Door, Event};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn timers_fire_in_order_and_never_early() {
    let simulation = Simulation::new(1, Faults::default());
    let fired = Rc::new(RefCell::new(Vec::new()));
    let seen = fired.clone();
    simulation.machine("a").start(|runtime| async move {
        for millis in [30, 10, 20] {
            let (own, seen) = (runtime.clone(), seen.clone());
            runtime.spawn(Queue::Foreground, async move {
                let before = own.now();
                own.sleep(Duration::from_millis(millis)).await;
                assert!(own.now().0 - before.0 >= millis * 1_000_000);
                seen.borrow_mut().push(millis);
            });
        }
        runtime.sleep(SECOND).await;
    });
    simulation.run_for(2 * SECOND);
    assert_eq!(*fired.borrow(), [10, 20, 30]);
    assert_eq!(simulation.now(), Nanos(2_000_000_000));
}

#[test]
fn an_abandoned_timer_does_not_move_the_time() {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("a");
    machine.run(|runtime| async move {
        let long = runtime.sleep(1000 * SECOND);
        let short = runtime.sleep(Duration::from_millis(1));
        futures_lite::future::or(long, short).await;
    });
    while simulation.step() {}
    assert!(simulation.now().0 < 10_000_000);
}

/// Two machines that talk, write, sync and sleep for a while.
fn busy_world(seed: u64) -> (u128, u64) {
    let faults = Faults {
        scheduler: SchedulerFaults {
            stall: 0.01,
            stall_max: Duration::from_millis(5),
            delay: 0.1,
        },
        ..Faults::default()
    };
    let simulation = Simulation::new(seed, faults);
    let (server, client) = (simulation.machine("server"), simulation.machine("client"));
    let address = SocketAddr::new(server.ip(), 7700);
    server.start(move |runtime| echo(runtime, address));
    simulation.run_for(Duration::from_millis(1));
    client.start(move |runtime| async move {
        let (net, disk) = (runtime.net(), runtime.disk(Path::new("data")));
        let file = disk
            .open("log", Open::Create { len: 1 << 20 })
            .await
            .unwrap();
        let connection = net.connect(address);
        let mut events = Vec::new();
        for round in 0..20u64 {
            net.events(&mut events).await;
            for event in events.drain(..) {
                if matches!(event, Event::Connected { .. } | Event::Sent { .. }) {
                    let mut page = PageBuffer::zeroed(4096);
                    page[..8].copy_from_slice(&runtime.random_u64().to_le_bytes());
                    let bytes = page.to_vec();
                    let done = file
                        .write_at(round * 4096, page, 4096, Persist::Dsync)
                        .await;
                    done.1.unwrap();
                    net.send(connection, bytes);
                }
            }
        }
    });
    simulation.run_for(SECOND);
    (simulation.trace_hash(), simulation.trace_steps())
}

async fn echo(runtime: Runtime, address: SocketAddr) {
    let net = runtime.net();
    net.listen(address, Door::Client, true).unwrap();
    let mut events = Vec::new();
    loop {
        net.events(&mut events).await;
        events.clear();
    }
}

#[test]
fn a_seed_is_a_run() {
    let (hash, steps) = busy_world(7);
    assert!(steps > 100, "{steps} steps prove nothing");
    assert_eq!((hash, steps), busy_world(7));
    assert_ne!(hash, busy_world(8).0);
}

#[test]
fn randomness_differs_after_a_restart_and_repeats_with_the_seed() {
    let draw = |seed| {
        let simulation = Simulation::new(seed, Faults::default());
        let machine = simulation.machine("a");
        let first = machine.run(|runtime| async move { runtime.random_u64() });
        let second = machine.run(|runtime| async move { runtime.random_u64() });
        assert_ne!(first, second);
        (first, second)
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
}

#[test]
#[should_panic(expected = "in a task")]
fn a_panic_in_a_task_reaches_the_test() {
    let simulation = Simulation::new(1, Faults::default());
    simulation
        .machine("a")
        .start(|_| async { panic!("in a task") });
    simulation.run_for(SECOND);
}

/// Touches the world when it is dropped.
struct LastWords {
    runtime: Runtime,
    heard: Rc<Cell<u32>>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let heard = self.heard.clone();
        self.runtime
            .spawn(Queue::Foreground, async move { heard.set(heard.get() + 1) });
        let address = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 1);
        let connection = self.runtime.net().connect(address);
        self.runtime.net().send(connection, vec![1]);
    }
}

#[test]
fn a_crash_makes_old_handles_inert_before_tasks_are_dropped() {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("a");
    let heard = Rc::new(Cell::new(0));
    let (own, kept) = (heard.clone(), Rc::new(RefCell::new(None)));
    let keep = kept.clone();
    let process = machine.start(move |runtime| async move {
        keep.replace(Some(runtime.clone()));
        let _words = LastWords {
            runtime: runtime.clone(),
            heard: own,
        };
        runtime.sleep(1000 * SECOND).await;
    });
    simulation.run_for(SECOND);
    machine.crash();
    assert!(!process.is_alive() && !machine.is_running());
    let before = simulation.trace_hash();
    let old = kept.take().unwrap();
    old.spawn(Queue::Foreground, async { panic!("a dead process runs") });
    simulation.run_for(SECOND);
    assert_eq!(heard.get(), 0);
    assert_eq!(
        simulation.trace_hash(),
        before,
        "something happened after the crash"
    );
}

/// A world in which everything goes wrong: two nodes talk and write, one crashes again and again.
fn stormy_world(seed: u64) -> (u128, u64) {
    let faults = Faults {
        scheduler: SchedulerFaults {
            stall: 0.01,
            stall_max: Duration::from_millis(20),
            delay: 0.1,
        },
        disk: DiskFaults {
            read_error: 0.02,
            write_error: 0.02,
            sync_error: 0.02,
            bit_rot: 0.02,
            misdirected_write: 0.02,
            misdirected_read: 0.02,
            lost_write: 0.02,
            slow: 0.02,
            hang: Duration::ZERO,
            capacity: Some(8 << 20),
        },
        net: NetFaults {
            loss: 0.05,
            reset: 0.01,
            half_open: 0.01,
            bit_flip: 0.01,
            link_delay_max: Duration::from_millis(5),
        },
    };
    let simulation = Simulation::new(seed, faults);
    let (server, client) = (simulation.machine("server"), simulation.machine("client"));
    let address = SocketAddr::new(server.ip(), 7700);
    client.start(move |runtime| chatter(runtime, address));
    for life in 0..10 {
        server.start(move |runtime| echo(runtime, address));
        server.start(write_all_day);
        server.crash_at_io(Some(server.io_count() + 40));
        simulation.run_for(Duration::from_millis(100));
        match life % 3 {
            0 => server.crash(),
            1 => server.kill(),
            _ => simulation.partition(&server, &client),
        }
        simulation.run_for(Duration::from_millis(20));
        simulation.heal(&server, &client);
        server.kill();
    }
    (simulation.trace_hash(), simulation.trace_steps())
}

async fn chatter(runtime: Runtime, address: SocketAddr) {
    let net = runtime.net();
    let mut events = Vec::new();
    net.connect(address);
    loop {
        net.events(&mut events).await;
        for event in events.drain(..) {
            match event {
                Event::Connected { connection } | Event::Sent { connection, .. } => {
                    let len = runtime.random_u64() % 20_000;
                    net.send(connection, vec![7; len as usize + 1]);
                }
                Event::Ended { connection } => net.close(connection),
                Event::Closed { .. } => {
                    runtime.sleep(Duration::from_millis(5)).await;
                    net.connect(address);
                }
                Event::Accepted { .. } | Event::Chunk { .. } | Event::Stop => {}
                Event::Asked { .. } | Event::Answered { .. } | Event::ShardEnded { .. } => {}
            }
        }
    }
}

async fn write_all_day(runtime: Runtime) {
    let disk = runtime.disk(Path::new("data"));
    for round in 0u64.. {
        let name = format!("file-{}", runtime.random_u64() % 4);
        let _ = disk.replace_small("node", name.as_bytes()).await;
        let mut opened = disk.open(&name, Open::Existing).await;
        if opened.is_err() {
            opened = disk.open(&name, Open::Create { len: 1 << 20 }).await;
        }
        let Ok(file) = opened else {
            continue;
        };
        let page = PageBuffer::zeroed(4096);
        let offset = round % 256 * 4096;
        if offset + 4096 <= file.len() {
            let _ = file.write_at(offset, page, 4096, Persist::Later).await;
            let _ = file.read_at(offset, 4096).await;
        }
        let _ = file.sync().await;
        let _ = disk.sync_dir("").await;
    }
}

#[test]
fn a_seed_is_a_run_in_a_storm_too() {
    for seed in 0..10 {
        let (hash, steps) = stormy_world(seed);
        assert!(steps > 500, "{steps} steps prove nothing");
        assert_eq!((hash, steps), stormy_world(seed));
        assert_ne!(hash, stormy_world(seed + 100).0);
    }
}
