//! What only the real backend has: sockets of others, descriptors, other processes, signals, teardown.

use crate::support::{Directory, Events, alone, listen, on_shard, pattern};
use armilla::runtime::disk::{DiskCause, Open};
use armilla::runtime::glommio::{run, signals};
use armilla::runtime::net::{CloseReason, Door, Event, Lease, ListenError};
use armilla::runtime::{Queue, Runtime};
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// What the descriptors of this process lead to, by kind: "socket", "anon_inode", or a path.
fn open_descriptors() -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("proc")
        .filter_map(|entry| std::fs::read_link(entry.expect("proc").path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

/// Rule 4: a peer that reads slowly gets every byte in order, and `Sent` comes when all of it has left.
#[test]
fn slow_reader() {
    const BYTES: usize = 16_000_000;
    on_shard(|runtime| async move {
        let net = runtime.net();
        let mut events = Events::of(&runtime);
        let address = listen(&net);
        let reader = std::thread::spawn(move || {
            let mut socket = TcpStream::connect(address).expect("connects");
            let (mut all, mut piece) = (Vec::new(), [0; 60_000]);
            loop {
                match socket.read(&mut piece).expect("read") {
                    0 => return all,
                    n => all.extend_from_slice(&piece[..n]),
                }
                if all.len() < 1_000_000 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let server = events.accepted().await;
        net.send(server, pattern(BYTES, 0));
        assert!(
            events.within(Duration::from_millis(10)).await.is_none(),
            "the sockets hold less than all of it"
        );
        assert!(matches!(events.next().await, Event::Sent { .. }));
        net.close(server);
        assert_eq!(events.closed(server).await, CloseReason::Finished);
        assert!(reader.join().expect("the reader ends") == pattern(BYTES, 0));
    });
}

#[test]
fn holder_of_a_port_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("bound");
    on_shard(move |runtime| async move {
        match runtime.net().listen(address, Door::Client, true) {
            Err(ListenError::InUse { holder, .. }) => {
                let me = format!("process {} ", std::process::id());
                assert!(holder.starts_with(&me), "{holder}");
            }
            other => panic!("unexpected {other:?}"),
        }
    });
}

#[test]
fn a_reset_is_told() {
    on_shard(|runtime| async move {
        let net = runtime.net();
        let mut events = Events::of(&runtime);
        let address = listen(&net);
        let peer = std::thread::spawn(move || {
            let socket = TcpStream::connect(address).expect("connects");
            let mut first = [0; 1];
            (&socket).read_exact(&mut first).expect("read");
            // Dropped with bytes unread: the kernel answers with a reset.
        });
        let server = events.accepted().await;
        net.send(server, vec![1; 5000]);
        const RESET: i32 = 104;
        assert_eq!(events.closed(server).await, CloseReason::Failed(RESET));
        peer.join().expect("the peer ends");
    });
}

/// Rules 5 and 7: descriptors are closed when nothing of them is in flight, and all of them are.
#[test]
fn no_descriptor_is_left() {
    on_shard(|runtime| async move {
        let net = runtime.net();
        let mut events = Events::of(&runtime);
        let address = listen(&net);
        let before = open_descriptors();
        for round in 0..1000 {
            let (client, server) = events.pair(address).await;
            let first = if round % 3 == 0 { server } else { client };
            if round % 5 == 0 {
                net.send(client, vec![1; 100]);
            }
            net.close(first);
            net.pause(server);
            net.close(server);
            net.close(client);
        }
        while events.within(Duration::from_millis(100)).await.is_some() {}
        assert_eq!(open_descriptors(), before);
        let statistics = runtime.ring_statistics();
        assert_eq!(
            (statistics.overflows, statistics.in_flight),
            (0, 1),
            "the accept alone is left"
        );
    });
}

/// Rule 2: an idle shard makes no system calls of its own.
#[test]
fn an_idle_shard_sleeps() {
    on_shard(|runtime| async move {
        let mut events = Events::of(&runtime);
        let address = listen(&runtime.net());
        events.pair(address).await;
        runtime.sleep(Duration::from_millis(20)).await;
        let before = runtime.ring_statistics();
        runtime.sleep(Duration::from_millis(100)).await;
        let after = runtime.ring_statistics();
        assert_eq!(after.enters, before.enters);
        assert!(after.sleeps > 0 && after.sleeps - before.sleeps <= 2);
    });
}

/// Rules 6 and 9: receives are parked for want of buffers when enough connections hold theirs.
#[test]
fn receives_park_and_go_on() {
    let statistics = on_shard(|runtime| async move {
        crate::net::exhausted_buffers_lose_nothing(&runtime).await;
        runtime.ring_statistics()
    });
    assert!(statistics.receives_parked > 0, "{statistics:?}");
    assert_eq!(statistics.overflows, 0);
}

#[test]
fn stop_reaches_a_sleeping_shard_once() {
    alone(|| {
        let running = run(0, |runtime| async move {
            let mut events = Events::of(&runtime);
            assert!(matches!(events.next().await, Event::Stop));
            events.within(Duration::from_millis(50)).await.is_none()
        });
        let running = running.expect("an executor starts");
        std::thread::sleep(Duration::from_millis(50));
        let handle = running.stop_handle();
        for _ in 0..3 {
            handle.stop();
        }
        assert!(running.join().expect("it ends"), "Stop is told once");
        handle.stop();
    });
}

thread_local! {
    /// Dropped when the thread ends: after the ring.
    static LATE: RefCell<Vec<Lease>> = const { RefCell::new(Vec::new()) };
}

/// Rule 10: teardown drains whatever is in flight, drops the tasks and leaves no descriptor; leases may outlive it.
#[test]
fn teardown_drains() {
    let directory = Directory::new("teardown");
    let root = directory.0.clone();
    alone(|| {
        let before = open_descriptors();
        for _ in 0..3 {
            let root = root.clone();
            let running = run(0, move |runtime| async move {
                leave_all_open(&runtime, &root).await
            });
            running
                .expect("an executor starts")
                .join()
                .expect("it ends");
        }
        let after = open_descriptors();
        // Each glommio executor leaves one eventfd of its own behind; ours are closed.
        let eventfds = |all: &[String]| all.iter().filter(|d| d.contains("eventfd")).count();
        assert!(eventfds(&after) <= eventfds(&before) + 3);
        let ours = |all: Vec<String>| -> Vec<String> {
            let kinds = ["socket", "io_uring", "teardown"];
            let of_kind = |d: &String| kinds.iter().any(|kind| d.contains(kind));
            all.into_iter().filter(of_kind).collect()
        };
        assert_eq!(ours(after), ours(before));
    });
}

async fn leave_all_open(runtime: &Runtime, root: &std::path::Path) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.send(client, vec![7; 100]);
    let lease = events
        .until(|event| match event {
            Event::Chunk { bytes, .. } => Some(bytes),
            _ => None,
        })
        .await;
    LATE.with_borrow_mut(|late| late.push(lease));
    // A send that cannot end, a connect that has just begun, and a task with a file, a lock and a read in flight.
    net.pause(client);
    net.send(server, vec![0; 16_000_000]);
    net.connect(address);
    let (disk, here) = (runtime.disk(root), runtime.clone());
    runtime.spawn(Queue::Background, async move {
        let name = format!("file-{}", here.random_u64());
        let _lock = disk
            .lock("LOCK")
            .await
            .expect("the executor before let go of it");
        let file = disk.open(&name, Open::Create { len: 1 << 20 }).await;
        let file = file.expect("a new file");
        loop {
            file.read_at(0, 1 << 20).await.expect("read");
        }
    });
    runtime.sleep(Duration::from_millis(20)).await;
}

/// Rule 3: a computation that asks `should_yield` does not hold up the network.
#[test]
fn computing_in_the_background_does_not_hold_up_replies() {
    let median = on_shard(|runtime| async move {
        let net = runtime.net();
        let mut events = Events::of(&runtime);
        let address = listen(&net);
        let (client, server) = events.pair(address).await;
        let stop = Rc::new(Cell::new(false));
        let (over, here) = (stop.clone(), runtime.clone());
        runtime.spawn(Queue::Background, async move {
            while !over.get() {
                let begin = here.now().0;
                while here.now().0 - begin < 50_000 {}
                if here.should_yield() {
                    here.yield_now().await;
                }
            }
        });
        let mut waits = Vec::new();
        for _ in 0..50 {
            let begin = runtime.now().0;
            net.send(client, vec![1; 100]);
            events.bytes(server, 100).await;
            waits.push(Duration::from_nanos(runtime.now().0 - begin));
            while events.within(Duration::from_millis(1)).await.is_some() {}
        }
        stop.set(true);
        waits.sort();
        waits[waits.len() / 2]
    });
    assert!(median < Duration::from_millis(2), "{median:?}");
}

#[test]
fn a_lock_of_another_process_is_seen() {
    let directory = Directory::new("lock");
    let root = directory.0.clone();
    let mut other = Command::new("flock")
        .arg(root.join("LOCK"))
        .args(["sh", "-c", "echo held; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock is part of every Linux");
    wait_for(&mut other, "held");
    on_shard(move |runtime| async move {
        let lock = runtime.disk(&root).lock("LOCK").await;
        assert_eq!(lock.err().map(|e| e.cause), Some(DiskCause::Locked));
    });
    drop(other.stdin.take());
    other.wait().expect("it ends");
}

fn wait_for(child: &mut Child, word: &str) {
    let out = child.stdout.as_mut().expect("piped");
    let said = BufReader::new(out)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.ends_with(word));
    assert!(said, "the other process said nothing of {word}");
}

/// Rule 6: an accept that failed for want of descriptors is tried again.
#[test]
fn accept_goes_on_after_descriptors_ran_out() {
    // In a process of its own: the limit would hit other cases.
    if std::env::var_os("CONFORMANCE_LIMITED").is_none() {
        let own = Command::new(std::env::current_exe().expect("this file"))
            .args(["--exact", "real::accept_goes_on_after_descriptors_ran_out"])
            .env("CONFORMANCE_LIMITED", "1")
            .stdout(Stdio::null())
            .status();
        assert!(own.expect("starts").success());
        return;
    }
    let limit = |soft: &str| {
        let pid = std::process::id().to_string();
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status();
        assert!(done.expect("prlimit is part of every Linux").success());
    };
    on_shard(move |runtime| async move {
        let net = runtime.net();
        let mut events = Events::of(&runtime);
        // The kernel notes the limit when an accept is armed.
        limit("400");
        let address = listen(&net);
        runtime.sleep(Duration::from_millis(20)).await;
        // All places are taken but one: that is the client's, and the accept finds none.
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.pop().expect("there was room for some");
        let late = std::thread::spawn(move || TcpStream::connect(address));
        let none = events.within(Duration::from_millis(150)).await;
        drop(taken);
        limit("1024");
        let late = late.join().expect("the thread ends").expect("connects");
        assert!(none.is_none(), "{none:?} without descriptors");
        events.accepted().await;
        drop(late);
    });
}

/// The other half of the next two: a process of its own, told by a variable, that waits for signals.
#[test]
fn signalled_process() {
    let Ok(manner) = std::env::var("CONFORMANCE_SIGNALLED") else {
        return;
    };
    let running = run(0, move |runtime| async move {
        let mut events = Events::of(&runtime);
        println!("ready");
        assert!(matches!(events.next().await, Event::Stop));
        println!("stopping");
        if manner == "stubborn" {
            events.within(Duration::from_secs(20)).await;
        }
    });
    let running = running.expect("an executor starts");
    signals::stop_on_signals(vec![running.stop_handle()]).expect("signals can be waited for");
    running.join().expect("it ends");
    std::process::exit(7);
}

fn signalled(manner: &str, signals: &[&str]) -> Option<i32> {
    let mut child = Command::new(std::env::current_exe().expect("this file"))
        .args(["--exact", "real::signalled_process", "--nocapture"])
        .env("CONFORMANCE_SIGNALLED", manner)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    for (signal, before) in signals.iter().zip(["ready", "stopping"]) {
        wait_for(&mut child, before);
        // "ready" is said just before the handler stands.
        std::thread::sleep(Duration::from_millis(200));
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([signal, pid.as_str()]).status();
        assert!(sent.expect("kill").success());
    }
    child.wait().expect("it ends").code()
}

#[test]
fn the_first_signal_stops_in_order() {
    assert_eq!(alone(|| signalled("obedient", &["-TERM"])), Some(7));
}

#[test]
fn the_second_signal_leaves_at_once() {
    assert_eq!(
        alone(|| signalled("stubborn", &["-INT", "-TERM"])),
        Some(130)
    );
}

/// Only a simulated node pretends to wait.
#[test]
fn no_delay_is_simulated() {
    on_shard(|runtime| async move {
        assert!((0..10_000).all(|_| !runtime.simulated_delay()));
    });
}
