//! The client library against a real node: kill -9 under many requests, repeated writes, listings of several shards.

use crate::harness::{Node, Scratch, alone, cpus};
use armilla::causal::object::OperationId;
use armilla::client::core::Core;
use armilla::client::{Client, ClientError, OnUnknown, Options, Put};
use armilla::wire::message::{Op, Request, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a node answers to a put of this operation.
fn put_as(node: &Node, key: &[u8], value: &[u8], operation: u128) -> Status {
    let mut stream = TcpStream::connect(&node.address).unwrap();
    let mut core = Core::new();
    core.submit(&Request {
        op: Op::Put,
        key,
        value,
        operation: OperationId(operation),
        ..Request::default()
    });
    stream.write_all(core.unsent()).unwrap();
    let mut bytes = [0; 4096];
    loop {
        let len = stream.read(&mut bytes).unwrap();
        core.on_bytes(&bytes[..len]);
        if let Some((_, reply)) = core.next_reply().unwrap() {
            return reply.status;
        }
    }
}

fn values(client: &Client, key: &[u8]) -> Vec<Vec<u8>> {
    let mut values: Vec<_> = client
        .get(key)
        .unwrap()
        .siblings
        .into_iter()
        .map(|s| s.value)
        .collect();
    values.sort();
    values
}

/// What a repeated operation does, over a restart too: nothing, while its write is there; once that is superseded, the
/// node knows it no more, which is why a client repeats a write of unknown outcome only if it is told to.
#[test]
fn an_operation_is_done_once_while_its_write_is_there() {
    let _alone = alone();
    let scratch = Scratch::new("operations");
    let mut node = Node::start(&scratch.data());
    assert_eq!(put_as(&node, b"k", b"one", 71), Status::Ok);
    assert_eq!(put_as(&node, b"k", b"one", 71), Status::Ok);
    assert_eq!(put_as(&node, b"k", b"other", 71), Status::BadRequest);
    node.kill_9();
    let node = Node::start(&scratch.data());
    let client = Client::connect(&node.address).unwrap();
    assert_eq!(put_as(&node, b"k", b"one", 71), Status::Ok);
    assert_eq!(values(&client, b"k"), [b"one"]);
    client.put(b"k", b"two", &Put::default()).unwrap();
    assert_eq!(put_as(&node, b"k", b"one", 71), Status::Ok);
    assert_eq!(values(&client, b"k"), [b"one".to_vec(), b"two".to_vec()]);
}

/// Each write is a sibling of its own, so one that was done twice is seen, and one that was acked and lost is too.
#[test]
fn kill_9_under_many_requests_loses_nothing_acked_and_does_nothing_twice() {
    let _alone = alone();
    let scratch = Scratch::new("client-kill");
    const KEYS: usize = 40;
    let mut acked: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut sent = acked.clone();
    let (mut number, mut unknown) = (0u64, 0);
    for round in 0..6 {
        let mut node = Node::start_with(&scratch.data(), &["--cores", &cpus(2)]);
        let client = Client::connect(&node.address).unwrap();
        check(&client, &acked, &sent);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + 15 * round));
            node.kill_9();
        });
        let mut dead = false;
        while !dead {
            let mut pending = Vec::new();
            for _ in 0..50 {
                let key = format!("key-{}-{}", round, number as usize % KEYS).into_bytes();
                let value = number.to_le_bytes().to_vec();
                number += 1;
                sent.entry(key.clone()).or_default().insert(value.clone());
                let put = client.begin_put(&key, &value, &Put::concurrent());
                pending.push((key, value, put));
            }
            for (key, value, put) in pending {
                match put.wait() {
                    Ok(_) => {
                        acked.entry(key).or_default().insert(value);
                    }
                    Err(ClientError::OutcomeUnknown(_)) => (dead, unknown) = (true, unknown + 1),
                    // It keeps as many siblings as it may.
                    Err(ClientError::Refused {
                        status: Status::TooManySiblings,
                        ..
                    }) => {
                        sent.get_mut(&key).unwrap().remove(&value);
                    }
                    Err(_) => {
                        dead = true;
                        sent.get_mut(&key).unwrap().remove(&value);
                    }
                }
            }
        }
        killer.join().unwrap();
    }
    let node = Node::start_with(&scratch.data(), &["--cores", &cpus(2)]);
    check(&Client::connect(&node.address).unwrap(), &acked, &sent);
    let count: usize = acked.values().map(BTreeSet::len).sum();
    println!("{count} acked, {unknown} unknown");
    assert!(
        count > 100 && unknown > 0,
        "{count} acked, {unknown} unknown: the test saw nothing"
    );
}

fn check(
    client: &Client,
    acked: &BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    sent: &BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
) {
    for (key, sent) in sent {
        let values = values(client, key);
        let there: BTreeSet<Vec<u8>> = values.iter().cloned().collect();
        assert_eq!(there.len(), values.len(), "a write was done twice");
        assert!(
            there.is_subset(sent),
            "what is there was sent, and not refused"
        );
        let acked = acked.get(key).cloned().unwrap_or_default();
        assert!(acked.is_subset(&there), "an acked write is there");
    }
}

/// An address that stays, whatever ports the system gives to the node behind it.
fn stand_before(door: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let door = door.clone();
    std::thread::spawn(move || {
        for inside in listener.incoming() {
            let inside = inside.unwrap();
            let to = door.lock().unwrap().clone();
            let Ok(outside) = TcpStream::connect(to) else {
                continue;
            };
            for (mut from, mut to) in [
                (inside.try_clone().unwrap(), outside.try_clone().unwrap()),
                (outside, inside),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}

/// Writers that repeat go on over restarts, and nothing is done twice.
#[test]
fn a_client_that_repeats_goes_on_after_a_restart() {
    let _alone = alone();
    let scratch = Scratch::new("client-repeat");
    let start = |data: &Path| Node::start_with(data, &["--cores", &cpus(2)]);
    let mut node = start(&scratch.data());
    let door = Arc::new(Mutex::new(node.address.clone()));
    let address = stand_before(&door);
    let options = Options {
        on_unknown: OnUnknown::Repeat,
        tries_max: 1000,
        request_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let client = Client::connect_with(&address, options).unwrap();
    let data = scratch.data();
    let restarts = std::thread::spawn(move || {
        for pause in [30, 60, 90] {
            std::thread::sleep(Duration::from_millis(pause));
            node.kill_9();
            node = Node::start_with(&data, &["--cores", &cpus(2)]);
            *door.lock().unwrap() = node.address.clone();
        }
        node
    });
    let mut sent: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut number = 0u64;
    while !restarts.is_finished() {
        let puts: Vec<_> = (0..20)
            .map(|_| {
                // Fewer than a key may have siblings.
                let key = (number / 100).to_le_bytes();
                *sent.entry(key.to_vec()).or_default() += 1;
                number += 1;
                client.begin_put(&key, &number.to_le_bytes(), &Put::concurrent())
            })
            .collect();
        for put in puts {
            put.wait().unwrap();
        }
    }
    let _node = restarts.join().unwrap();
    for (key, count) in &sent {
        assert_eq!(
            values(&client, key).len(),
            *count,
            "each write is there, once"
        );
    }
    println!("{number} writes");
}

#[test]
fn a_listing_holds_every_key_of_all_shards_once() {
    let _alone = alone();
    let scratch = Scratch::new("listing");
    let node = Node::start_with(&scratch.data(), &["--cores", &cpus(3)]);
    let client = Client::connect(&node.address).unwrap();
    assert_eq!(client.keys().count(), 0);
    // More than a page of each shard.
    let key = |n: usize| format!("key-{n}").into_bytes();
    let puts: Vec<_> = (0..4000)
        .map(|n| client.begin_put(&key(n), b"v", &Put::default()))
        .collect();
    puts.into_iter().for_each(|put| assert!(put.wait().is_ok()));
    let deletes: Vec<_> = (0..4000)
        .step_by(4)
        .map(|n| client.begin_delete(&key(n), &Put::default()))
        .collect();
    deletes
        .into_iter()
        .for_each(|delete| assert!(delete.wait().is_ok()));
    let expected: BTreeSet<Vec<u8>> = (0..4000).filter(|n| n % 4 != 0).map(key).collect();
    // Straight to each shard, and all through the port of one.
    let one_door = Options {
        shard_ports: false,
        connections_max: 1,
        ..Options::default()
    };
    for client in [
        client,
        Client::connect_with(&node.address, one_door).unwrap(),
    ] {
        let listed: Vec<Vec<u8>> = client.keys().map(|key| key.unwrap()).collect();
        assert_eq!(listed.len(), 3000);
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
