//! A client of several nodes, and what it asks of the replicas.

use crate::fake::{Asked, Fake};
use armilla::client::{Client, ClientError, Get, OnUnknown, Options, Put};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Nobody listens there.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn of(servers: &[&str], options: Options) -> Client {
    Client::connect_with(&servers.join(","), options).unwrap()
}

#[test]
fn the_first_that_can_be_reached_is_asked() {
    let (one, other) = (Fake::start(), Fake::start());
    let (nowhere, silent) = (nowhere(), TcpListener::bind("127.0.0.1:0").unwrap());
    let silent = silent.local_addr().unwrap().to_string();
    let options = Options {
        connect_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    one.refuse(1);
    let servers = [&*nowhere, &*silent, &*one.address, &*other.address];
    let client = of(&servers, options);
    client.put(b"k", b"v", &Put::default()).unwrap();
    assert_eq!((one.seen().len(), other.seen().len()), (0, 1));
}

#[test]
fn all_that_cannot_be_reached_are_named() {
    let (one, other) = (nowhere(), nowhere());
    let error = Client::connect(&format!("{one}, {other}")).err().unwrap();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains(&format!("{one}: ")) && said.contains(&format!("; {other}: ")),
        "{said}"
    );
    let error = Client::connect(" , ").err().unwrap();
    assert!(
        error.to_string().contains("no address was given"),
        "{error}"
    );
}

/// The connection breaks over a write: its outcome is unknown and it goes nowhere else; what comes later does.
#[test]
fn what_broke_is_not_guessed_and_the_next_request_goes_on() {
    let (one, other) = (Fake::start(), Fake::start());
    let client = of(&[&one.address, &other.address], Options::default());
    let error = client.put(b"broken", b"v", &Put::default()).unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
    assert_eq!((one.seen().len(), other.seen().len()), (1, 0));
    client.put(b"k", b"v", &Put::default()).unwrap();
    assert_eq!((one.seen().len(), other.seen().len()), (1, 1));
    // In a circle.
    assert!(client.put(b"broken", b"v", &Put::default()).is_err());
    client.put(b"k", b"v", &Put::default()).unwrap();
    assert_eq!((one.seen().len(), other.seen().len()), (2, 2));
}

#[test]
fn a_read_is_tried_at_the_next() {
    let (one, other) = (Fake::start(), Fake::start());
    let client = of(&[&one.address, &other.address], Options::default());
    other_has(&other, b"broken-once");
    let got = client.get(b"broken-once").unwrap();
    assert_eq!(got.siblings[0].value, b"there");
    assert_eq!((one.gets(), other.gets()), (1, 1));
}

/// So that it is answered there.
fn other_has(other: &Fake, key: &[u8]) {
    let client = of(&[&other.address], Options::default());
    let _ = client.put(key, b"there", &Put::default());
    client.put(key, b"there", &Put::default()).unwrap();
}

#[test]
fn a_write_that_may_be_repeated_keeps_its_operation_id_at_the_next() {
    let (one, other) = (Fake::start(), Fake::start());
    let options = Options {
        on_unknown: OnUnknown::Repeat,
        ..Options::default()
    };
    let client = of(&[&one.address, &other.address], options);
    client.put(b"broken-once", b"v", &Put::default()).unwrap();
    let (first, next) = (one.seen(), other.seen());
    assert_eq!((first.len(), next.len()), (2, 1), "each breaks it once");
    assert_eq!(first[0].operation, next[0].operation);
    assert_eq!(first[0].operation, first[1].operation);
}

#[test]
fn a_node_that_takes_no_requests_is_left_for_the_next() {
    for shards in [0, 2] {
        let (one, other) = (
            Fake::start_with_shards(shards),
            Fake::start_with_shards(shards),
        );
        other.become_another_node();
        let client = of(&[&one.address, &other.address], Options::default());
        one.take_no_requests();
        client.put(b"k", b"v", &Put::default()).unwrap();
        client.put(b"k", b"w", &Put::default()).unwrap();
        assert_eq!((one.asked().len(), other.asked().len()), (1, 2));
        assert_eq!(one.seen()[0].operation, other.seen()[0].operation);
    }
}

#[test]
fn a_client_stays_with_its_ring() {
    let (one, stranger) = (Fake::start(), Fake::start());
    stranger.become_of_another_ring();
    let options = Options {
        tries_max: 2,
        ..Options::default()
    };
    let client = of(&[&one.address, &stranger.address], options);
    assert!(client.put(b"broken", b"v", &Put::default()).is_err());
    // The next in the circle is none of them: the first is asked again.
    client.put(b"k", b"v", &Put::default()).unwrap();
    assert_eq!((one.seen().len(), stranger.seen().len()), (2, 0));
    one.turn_away(usize::MAX);
    assert!(client.put(b"broken", b"v", &Put::default()).is_err());
    let error = client.put(b"k", b"v", &Put::default()).unwrap_err();
    assert!(error.to_string().contains("another ring"), "{error}");
    assert_eq!(stranger.seen().len(), 0);
}

#[test]
fn what_is_asked_of_the_replicas_is_sent() {
    let fake = Fake::start();
    let client = Client::connect(&fake.address).unwrap();
    client.put(b"k", b"v", &Put::default()).unwrap();
    client.get(b"k").unwrap();
    let how = Put::concurrent().write_quorum(3).read_quorum(2).strict();
    client.put(b"k", b"v", &how).unwrap();
    client.begin_put(b"k", b"v", &how).wait().unwrap();
    client
        .delete(b"k", &Put::default().write_quorum(1))
        .unwrap();
    let how = Get::default().read_quorum(3).strict();
    client.get_with(b"k", &how).unwrap();
    client.begin_get_with(b"k", &how).wait().unwrap();
    let asked = |read_quorum, write_quorum, strict| Asked {
        read_quorum,
        write_quorum,
        strict,
        timeout_ms: 0,
    };
    let expected = [
        asked(0, 0, false),
        asked(0, 0, false),
        asked(2, 3, true),
        asked(2, 3, true),
        asked(0, 1, false),
        asked(3, 0, true),
        asked(3, 0, true),
    ];
    assert_eq!(fake.asked(), expected);
}

#[test]
fn a_timeout_is_of_one_request_and_the_node_has_less_of_it() {
    let fake = Fake::start();
    let client = Client::connect(&fake.address).unwrap();
    let short = Duration::from_millis(200);
    let began = Instant::now();
    let error = client
        .get_with(b"silent", &Get::default().timeout(short))
        .unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer(_)), "{error:?}");
    let put = client.put(b"silent", b"v", &Put::default().timeout(short));
    assert!(put.unwrap_err().may_have_happened());
    let took = began.elapsed();
    assert!((2 * short..10 * short).contains(&took), "{took:?}");
    client.put(b"k", b"v", &Put::default()).unwrap();
    let told: Vec<u32> = fake.asked().iter().map(|asked| asked.timeout_ms).collect();
    assert!(
        (100..=180).contains(&told[0]) && (100..=180).contains(&told[1]),
        "{told:?}"
    );
    assert_eq!(told[2], 0);
}
