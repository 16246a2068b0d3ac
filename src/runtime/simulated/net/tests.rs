//! Streams between simulated machines: their order, their ends, and every fault.

use crate::runtime::net::{CloseReason, ConnectionId, Door, Event, ListenError, Net};
use crate::runtime::simulated::faults::NetFaults;
use crate::runtime::simulated::net::fabric::WINDOW_BYTES;
use crate::runtime::simulated::{Faults, Machine, Process, Simulation};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a process saw; it checks the order of events by itself.
#[derive(Default)]
struct Log {
    open: BTreeSet<ConnectionId>,
    accepted: Vec<ConnectionId>,
    bytes: BTreeMap<ConnectionId, Vec<u8>>,
    chunks: Vec<usize>,
    sent: usize,
    ended: BTreeSet<ConnectionId>,
    closed: BTreeMap<ConnectionId, CloseReason>,
    stops: usize,
}

impl Log {
    fn see(&mut self, event: Event) {
        match event {
            Event::Accepted {
                connection, door, ..
            } => {
                assert_eq!(door, Door::Client);
                assert!(self.open.insert(connection) && !self.closed.contains_key(&connection));
                self.accepted.push(connection);
            }
            Event::Connected { connection } => assert!(self.open.insert(connection)),
            Event::Chunk { connection, bytes } => {
                assert!(self.open.contains(&connection) && !bytes.is_empty());
                assert!(!self.ended.contains(&connection));
                self.chunks.push(bytes.len());
                self.bytes.entry(connection).or_default().extend(&*bytes);
            }
            Event::Sent { connection, buffer } => {
                assert!(self.open.contains(&connection) && buffer.is_empty());
                self.sent += 1;
            }
            Event::Ended { connection } => {
                assert!(self.open.contains(&connection) && self.ended.insert(connection));
            }
            Event::Closed { connection, reason } => {
                self.open.remove(&connection);
                assert_eq!(self.closed.insert(connection, reason), None);
            }
            Event::Stop => self.stops += 1,
            Event::Asked { .. } | Event::Answered { .. } | Event::ShardEnded { .. } => {
                panic!("nobody writes letters here")
            }
        }
    }
}

struct Host {
    machine: Machine,
    process: Process,
    net: Net,
    log: Rc<RefCell<Log>>,
}

impl Host {
    fn new(simulation: &Simulation, name: &str) -> Host {
        Host::on(simulation.machine(name))
    }

    fn on(machine: Machine) -> Host {
        let log = Rc::new(RefCell::new(Log::default()));
        let seen = log.clone();
        let process = machine.start(|runtime| async move {
            let (net, mut events) = (runtime.net(), Vec::new());
            loop {
                net.events(&mut events).await;
                for event in events.drain(..) {
                    if let Event::Ended { connection } = event {
                        net.close(connection);
                    }
                    seen.borrow_mut().see(event);
                }
            }
        });
        let net = Net::Simulated(process.net());
        Host {
            machine,
            process,
            net,
            log,
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.machine.ip(), 7700)
    }

    fn listen(&self) {
        self.net.listen(self.address(), Door::Client, true).unwrap();
    }

    fn received(&self) -> Vec<u8> {
        self.log
            .borrow()
            .bytes
            .values()
            .flatten()
            .copied()
            .collect()
    }

    fn closed(&self, connection: ConnectionId) -> Option<CloseReason> {
        self.log.borrow().closed.get(&connection).copied()
    }

    fn sent(&self) -> usize {
        self.log.borrow().sent
    }
}

struct Pair {
    server: Host,
    client: Host,
    connection: ConnectionId,
    accepted: ConnectionId,
    simulation: Simulation,
}

fn connected(seed: u64, net: NetFaults) -> Pair {
    let simulation = Simulation::new(seed, Faults::default());
    let (server, client) = (Host::new(&simulation, "s"), Host::new(&simulation, "c"));
    server.listen();
    let connection = client.net.connect(server.address());
    simulation.run_for(SECOND);
    assert!(client.log.borrow().open.contains(&connection));
    let accepted = server.log.borrow().accepted[0];
    simulation.set_faults(Faults {
        net,
        ..Faults::default()
    });
    Pair {
        server,
        client,
        connection,
        accepted,
        simulation,
    }
}

/// Bytes of which every place tells its own.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

impl Pair {
    /// Sends in many buffers, each after the one before was sent.
    fn send_all(&self, bytes: &[u8]) {
        for piece in bytes.chunks(10_000) {
            let before = self.client.sent();
            self.client.net.send(self.connection, piece.to_vec());
            let sent = || self.client.sent() > before;
            assert!(self.simulation.run_until(sent, 100 * SECOND));
        }
    }
}

#[test]
fn a_stream_keeps_its_bytes_in_order_however_it_is_cut() {
    let faults = NetFaults {
        loss: 0.05,
        link_delay_max: Duration::from_millis(20),
        ..NetFaults::default()
    };
    for seed in 0..10 {
        let pair = connected(seed, faults);
        pair.send_all(&pattern(300_000));
        pair.simulation.run_for(10 * SECOND);
        assert!(pair.server.received() == pattern(300_000));
        let log = pair.server.log.borrow();
        let sizes: BTreeSet<usize> = log.chunks.iter().copied().collect();
        assert!(
            sizes.len() > 5 && sizes.iter().any(|size| *size > 10_000),
            "cut and merged: {sizes:?}"
        );
    }
}

#[test]
fn a_paused_reader_holds_the_sender_back_and_loses_nothing() {
    let pair = connected(1, NetFaults::default());
    pair.server.net.pause(pair.accepted);
    let bytes = pattern(3 * WINDOW_BYTES);
    pair.client.net.send(pair.connection, bytes.clone());
    pair.simulation.run_for(SECOND);
    assert_eq!((pair.server.received().len(), pair.client.sent()), (0, 0));
    pair.server.net.resume(pair.accepted);
    pair.simulation.run_for(SECOND);
    assert_eq!(
        (pair.server.received() == bytes, pair.client.sent()),
        (true, 1)
    );
}

#[test]
fn a_process_that_takes_no_events_holds_the_sender_back() {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("deaf");
    let deaf = machine.start(|_| std::future::pending());
    let address = SocketAddr::new(machine.ip(), 1);
    let net = Net::Simulated(deaf.net());
    net.listen(address, Door::Admin, false).unwrap();
    let client = Host::new(&simulation, "c");
    let connection = client.net.connect(address);
    simulation.run_for(SECOND);
    client.net.send(connection, pattern(WINDOW_BYTES + 1));
    simulation.run_for(SECOND);
    assert_eq!(client.sent(), 0);
}

#[test]
fn a_close_comes_after_the_send_in_flight_on_both_sides() {
    for seed in 0..20 {
        let pair = connected(seed, NetFaults::default());
        pair.client.net.send(pair.connection, pattern(200_000));
        pair.client.net.close(pair.connection);
        pair.simulation.run_for(SECOND);
        assert!(pair.server.received() == pattern(200_000));
        assert_eq!(pair.client.sent(), 1);
        assert_eq!(
            pair.client.closed(pair.connection),
            Some(CloseReason::Finished)
        );
        assert_eq!(
            pair.server.closed(pair.accepted),
            Some(CloseReason::Finished)
        );
        // A send to what is closed is dropped, and the slot's next use is another connection.
        pair.client.net.send(pair.connection, vec![1]);
        let next = pair.client.net.connect(pair.server.address());
        assert_eq!(next.slot, pair.connection.slot);
        assert_ne!(next.generation, pair.connection.generation);
        pair.client.net.close(pair.connection);
        pair.simulation.run_for(SECOND);
        assert_eq!(pair.client.closed(next), None);
        assert_eq!(pair.client.sent(), 1);
    }
}

#[test]
fn a_close_by_the_peer_reports_the_send_in_flight_first() {
    let pair = connected(1, NetFaults::default());
    pair.server.net.pause(pair.accepted);
    pair.client
        .net
        .send(pair.connection, pattern(2 * WINDOW_BYTES));
    pair.simulation.run_for(SECOND);
    assert_eq!(pair.client.sent(), 0);
    pair.server.net.close(pair.accepted);
    pair.simulation.run_for(SECOND);
    // The log checks that nothing comes after the close.
    assert_eq!(pair.client.sent(), 1);
    assert_eq!(
        pair.client.closed(pair.connection),
        Some(CloseReason::Finished)
    );
}

#[test]
#[should_panic(expected = "one send in flight")]
fn two_sends_at_once_are_a_bug_of_the_caller() {
    let pair = connected(1, NetFaults::default());
    pair.client.net.send(pair.connection, vec![1]);
    pair.client.net.send(pair.connection, vec![2]);
}

#[test]
fn a_connect_that_finds_nobody_is_closed_with_the_reason() {
    let simulation = Simulation::new(1, Faults::default());
    let client = Host::new(&simulation, "c");
    let other = simulation.machine("idle");
    let dead = Host::new(&simulation, "dead");
    dead.machine.crash();
    let to = |ip: &str| client.net.connect(format!("{ip}:7700").parse().unwrap());
    let refused = client.net.connect(SocketAddr::new(other.ip(), 7700));
    let timed_out = client.net.connect(dead.address());
    let nowhere = to("10.9.9.9");
    simulation.run_for(SECOND);
    assert_eq!(client.closed(refused), Some(CloseReason::Failed(111)));
    assert_eq!(client.closed(nowhere), Some(CloseReason::Failed(113)));
    assert_eq!(client.closed(timed_out), None);
    simulation.run_for(10 * SECOND);
    assert_eq!(client.closed(timed_out), Some(CloseReason::Failed(110)));
}

#[test]
fn an_address_has_one_holder_unless_all_share() {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("a");
    let (one, two) = (Host::on(machine.clone()), Host::on(machine.clone()));
    let listen = |host: &Host, text: &str, exclusive| {
        host.net
            .listen(text.parse().unwrap(), Door::Client, exclusive)
    };
    listen(&one, "0.0.0.0:7700", true).unwrap();
    for exclusive in [true, false] {
        let used = listen(&two, "127.0.0.1:7700", exclusive);
        assert!(matches!(used, Err(ListenError::InUse { .. })));
    }
    listen(&one, "0.0.0.0:7701", false).unwrap();
    listen(&two, "0.0.0.0:7701", false).unwrap();
    let foreign = listen(&one, "10.0.0.77:1", false);
    assert!(matches!(foreign, Err(ListenError::Os { .. })));
    assert_ne!(listen(&one, "127.0.0.1:0", true).unwrap().port(), 0);
    // Shared doors both get connections; a new process may listen after the old one died.
    let client = Host::new(&simulation, "c");
    for _ in 0..20 {
        client.net.connect(SocketAddr::new(machine.ip(), 7701));
    }
    simulation.run_for(SECOND);
    assert!(
        [&one, &two]
            .iter()
            .all(|host| !host.log.borrow().accepted.is_empty())
    );
    machine.kill();
    assert!(listen(&Host::on(machine), "0.0.0.0:7700", true).is_ok());
}

#[test]
fn a_listener_that_stops_resets_its_backlog() {
    let outcomes: BTreeSet<(bool, bool)> = (0..60)
        .map(|seed| {
            let simulation = Simulation::new(seed, Faults::default());
            let (server, client) = (Host::new(&simulation, "s"), Host::new(&simulation, "c"));
            server.listen();
            let connection = client.net.connect(server.address());
            simulation.run_for(Duration::from_micros(130));
            let accepted = !server.log.borrow().accepted.is_empty();
            server.net.stop_listening();
            simulation.run_for(SECOND);
            assert!(accepted || server.log.borrow().accepted.is_empty());
            (accepted, client.closed(connection).is_some())
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([(false, true), (true, false)]));
}

#[test]
fn a_partition_holds_bytes_and_a_mended_one_lets_them_go_on() {
    let pair = connected(1, NetFaults::default());
    let (server, client) = (&pair.server, &pair.client);
    // One direction only.
    pair.simulation.cut(&client.machine, &server.machine);
    client.net.send(pair.connection, pattern(5_000));
    server.net.send(pair.accepted, pattern(100));
    let timed_out = client.net.connect(server.address());
    pair.simulation.run_for(5 * SECOND);
    assert_eq!((server.received().len(), client.received().len()), (0, 100));
    assert_eq!(client.closed(timed_out), Some(CloseReason::Failed(110)));
    pair.simulation.partition(&client.machine, &server.machine);
    pair.simulation.heal(&client.machine, &server.machine);
    client.net.send(pair.connection, pattern(7));
    pair.simulation.run_for(SECOND);
    assert_eq!(server.received(), [pattern(5_000), pattern(7)].concat());
}

#[test]
fn a_killed_peer_ends_its_streams_and_one_without_power_does_late_or_never() {
    let mut reasons = BTreeSet::new();
    for seed in 0..20 {
        let pair = connected(seed, NetFaults::default());
        pair.server.machine.kill();
        pair.simulation.run_for(SECOND);
        let ended = Some(CloseReason::Finished);
        assert_eq!(pair.client.closed(pair.connection), ended);

        let pair = connected(seed, NetFaults::default());
        pair.server.net.pause(pair.accepted);
        pair.client.net.send(pair.connection, vec![1]);
        pair.simulation.run_for(SECOND);
        pair.server.machine.kill();
        pair.simulation.run_for(SECOND);
        let reset = Some(CloseReason::Failed(104));
        assert_eq!(
            pair.client.closed(pair.connection),
            reset,
            "bytes were unread"
        );

        let pair = connected(seed, NetFaults::default());
        pair.server.machine.crash();
        assert!(!pair.server.process.is_alive());
        pair.simulation.run_for(5 * SECOND);
        let silent = pair.client.closed(pair.connection).is_none();
        pair.client.net.send(pair.connection, vec![1]);
        pair.simulation.run_for(20 * SECOND);
        let CloseReason::Failed(errno) = pair.client.closed(pair.connection).unwrap() else {
            panic!("nobody finished it");
        };
        reasons.insert((silent, errno));
    }
    assert_eq!(reasons, BTreeSet::from([(false, 104), (true, 110)]));
}

#[test]
fn a_send_to_a_machine_that_started_again_is_reset() {
    let silent = (0..20).find(|seed| {
        let pair = connected(*seed, NetFaults::default());
        pair.server.machine.crash();
        let _again = Host::on(pair.server.machine.clone());
        pair.simulation.run_for(5 * SECOND);
        if pair.client.closed(pair.connection).is_some() {
            return false;
        }
        pair.client.net.send(pair.connection, vec![1]);
        pair.simulation.run_for(SECOND);
        pair.client.closed(pair.connection) == Some(CloseReason::Failed(104))
    });
    assert!(silent.is_some());
}

#[test]
fn resets_half_open_ends_and_flipped_bits_happen_when_asked_for() {
    let pair = connected(
        1,
        NetFaults {
            reset: 1.0,
            ..NetFaults::default()
        },
    );
    pair.client.net.send(pair.connection, pattern(10));
    pair.simulation.run_for(SECOND);
    let reset = Some(CloseReason::Failed(104));
    assert_eq!(pair.client.closed(pair.connection), reset);
    assert_eq!(pair.server.closed(pair.accepted), reset);

    let pair = connected(
        1,
        NetFaults {
            half_open: 1.0,
            ..NetFaults::default()
        },
    );
    pair.client.net.send(pair.connection, pattern(10));
    pair.simulation.run_for(SECOND);
    assert_eq!(pair.server.closed(pair.accepted), reset);
    assert_eq!(
        pair.client.closed(pair.connection),
        None,
        "it does not know yet"
    );

    let pair = connected(
        1,
        NetFaults {
            bit_flip: 1.0,
            ..NetFaults::default()
        },
    );
    pair.client.net.send(pair.connection, vec![0; 10]);
    pair.simulation.run_for(SECOND);
    let flipped: u32 = pair
        .server
        .received()
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert!((1..=10).contains(&flipped));
}

#[test]
fn everybody_on_a_machine_hears_the_stop() {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("a");
    let hosts = [Host::on(machine.clone()), Host::on(machine.clone())];
    machine.stop_signal();
    simulation.run_for(SECOND);
    assert!(hosts.iter().all(|host| host.log.borrow().stops == 1));
}

#[test]
fn a_connect_that_is_closed_at_once_leaves_nothing_behind() {
    for seed in 0..30 {
        let simulation = Simulation::new(seed, Faults::default());
        let (server, client) = (Host::new(&simulation, "s"), Host::new(&simulation, "c"));
        server.listen();
        let connection = client.net.connect(server.address());
        simulation.run_for(Duration::from_micros(10 * seed));
        client.net.close(connection);
        simulation.run_for(SECOND);
        assert_eq!(client.closed(connection), Some(CloseReason::Finished));
        let log = server.log.borrow();
        assert!(log.open.is_empty(), "seed {seed}");
        assert_eq!(log.accepted.len(), log.closed.len());
    }
}
