use crate::fake::Fake;
use armilla::client::{Client, ClientError, OnUnknown, Options, Put};
use armilla::wire::message::{PutMode, Status};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

fn options() -> Options {
    Options {
        request_timeout: Duration::from_millis(400),
        ..Options::default()
    }
}

fn client(fake: &Fake) -> Client {
    Client::connect_with(&fake.address, options()).unwrap()
}

/// Patient, and it repeats what may have happened.
fn repeating(fake: &Fake) -> Client {
    let options = Options {
        on_unknown: OnUnknown::Repeat,
        ..Options::default()
    };
    Client::connect_with(&fake.address, options).unwrap()
}

#[test]
fn values_siblings_and_deletes() {
    let fake = Fake::start();
    let client = client(&fake);
    assert!(client.get(b"k").unwrap().siblings.is_empty());
    let big = vec![7; 1 << 20];
    let written = client.put(b"k", &big, &Put::default()).unwrap();
    assert_eq!(
        (written.context.as_slice(), written.receipt.unwrap().votes),
        (&b"after"[..], 1)
    );
    client.put(b"k", b"", &Put::concurrent()).unwrap();
    let found = client.get(b"k").unwrap();
    assert_eq!(
        found
            .siblings
            .iter()
            .map(|s| s.value.len())
            .collect::<Vec<_>>(),
        [1 << 20, 0]
    );
    client
        .put(b"k", b"one", &Put::with_context(&found.context))
        .unwrap();
    assert_eq!(client.get(b"k").unwrap().siblings.len(), 1);
    client.delete(b"k", &Put::default()).unwrap();
    assert!(client.get(b"k").unwrap().siblings.is_empty());
    let hello = client.hello().unwrap();
    assert_eq!((hello.node.node, hello.shard_ports), (7, vec![1, 2]));
    let seen = fake.seen();
    assert_eq!(seen[2].context, b"seen");
    assert_eq!(seen[3].mode, PutMode::Overwrite);
    let mut operations: Vec<_> = seen.iter().map(|seen| seen.operation).collect();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), 4, "one operation id a write");
}

#[test]
fn a_retry_is_advised_and_keeps_its_operation_id() {
    let fake = Fake::start();
    client(&fake)
        .put(b"overloaded-twice", b"v", &Put::default())
        .unwrap();
    let seen = fake.seen();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].operation == pair[1].operation)
    );
    assert_ne!(seen[0].operation.0, 0);
}

#[test]
fn retries_are_bounded_and_the_refusal_is_told() {
    let fake = Fake::start();
    let options = Options {
        tries_max: 3,
        ..Options::default()
    };
    let client = Client::connect_with(&fake.address, options).unwrap();
    let error = client.put(b"overloaded", b"v", &Put::default());
    let Err(ClientError::Refused { status, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((status, fake.seen().len()), (Status::Overloaded, 3));
}

#[test]
fn unknown_is_said_and_never_retried() {
    for key in [
        "broken", "silent", "rubbish", "timeout", "half", "stranger", "lost",
    ] {
        let fake = Fake::start();
        let client = client(&fake);
        let key = key.as_bytes();
        let error = client.put(key, b"v", &Put::default()).unwrap_err();
        assert!(
            matches!(error, ClientError::OutcomeUnknown(_)) && error.may_have_happened(),
            "{error:?}"
        );
        assert_eq!(fake.seen().len(), 1, "an unknown write is not repeated");
        if key != b"lost" {
            let error = client.get(key).unwrap_err();
            assert!(matches!(error, ClientError::NoAnswer(_)), "{error:?}");
        }
        client
            .put(b"k", b"v", &Put::default())
            .expect("the next request has a new connection");
    }
}

#[test]
fn reads_are_tried_again() {
    for key in [
        "broken-once",
        "rubbish-once",
        "timeout-once",
        "half-once",
        "stranger-once",
    ] {
        let fake = Fake::start();
        let client = Client::connect(&fake.address).unwrap();
        assert!(client.get(key.as_bytes()).unwrap().siblings.is_empty());
        assert_eq!(fake.gets(), 2, "{key}");
    }
}

#[test]
fn a_repeated_write_keeps_its_operation_id_and_stays_one() {
    for key in ["lost-once", "broken-once", "half-once", "timeout-once"] {
        let fake = Fake::start();
        let client = repeating(&fake);
        let key = key.as_bytes();
        client.put(key, b"v", &Put::concurrent()).unwrap();
        let seen = fake.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], seen[1]);
        assert_eq!(client.get(key).unwrap().siblings.len(), 1);

        let fake = Fake::start();
        let client = repeating(&fake);
        let pending = client.begin_put(key, b"v", &Put::concurrent());
        pending.wait().unwrap();
        let seen = fake.seen();
        assert_eq!((seen.len(), &seen[0]), (2, &seen[1]));
        assert_eq!(client.get(key).unwrap().siblings.len(), 1);
    }
}

/// A refusal says that this try did nothing; of the one before it says nothing.
#[test]
fn what_may_have_happened_is_not_undone_by_a_later_refusal() {
    let fake = Fake::start();
    let error = repeating(&fake).put(b"broken-then-refused", b"v", &Put::if_absent());
    let error = error.unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
    assert_eq!(fake.seen().len(), 2);
}

#[test]
fn a_refusal_did_not_happen() {
    let fake = Fake::start();
    let client = client(&fake);
    let error = client.put(b"refused", b"v", &Put::default()).unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused {
            status: Status::ContextRefused,
            ..
        }
    ));
    assert!(!error.may_have_happened());
    assert_eq!(fake.seen().len(), 1);
    let error = client.put(&[0; 5000], b"v", &Put::default()).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge(_)));
    assert_eq!(fake.seen().len(), 1);
}

/// Its frame would end the connection, and with it what others have under way.
#[test]
fn a_value_that_the_node_does_not_take_is_not_sent() {
    let fake = Fake::start();
    fake.take_values_up_to(100);
    let client = client(&fake);
    client.put(b"k", &[0; 100], &Put::default()).unwrap();
    let error = client.put(b"k", &[0; 101], &Put::default()).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge(_)), "{error:?}");
    assert!(error.to_string().contains("no more than 100"), "{error}");
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn a_damaged_value_is_no_value() {
    let fake = Fake::start();
    let client = client(&fake);
    client.put(b"k", b"damaged", &Put::default()).unwrap();
    let error = client.get(b"k").unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(fake.gets() > 1, "it may have been damaged on its way");
}

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address).err().unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }) && !error.may_have_happened());
}

/// What listens may accept and say nothing, or something else than a hello.
#[test]
fn who_says_no_hello_is_no_node() {
    let fake = Fake::start();
    fake.turn_away(1);
    let error = Client::connect(&fake.address).err().unwrap();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    fake.refuse(1);
    let error = Client::connect(&fake.address).err().unwrap();
    let refused = ClientError::Refused {
        status: Status::Overloaded,
        message: "too many connections".into(),
    };
    assert_eq!(error.to_string(), refused.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = Options {
        connect_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let error = Client::connect_with(&address, options).err().unwrap();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
}

/// A connection that cannot be made sent nothing: writes are tried again.
#[test]
fn a_write_waits_for_a_node_that_comes_back() {
    let fake = Fake::start();
    let client = Client::connect(&fake.address).unwrap();
    assert!(client.put(b"broken", b"v", &Put::default()).is_err());
    fake.turn_away(2);
    client.put(b"k", b"v", &Put::default()).unwrap();
    assert!(client.put(b"broken", b"v", &Put::default()).is_err());
    fake.refuse(2);
    client.put(b"k", b"v", &Put::default()).unwrap();
    let puts = fake.seen().into_iter().filter(|seen| seen.key == b"k");
    assert_eq!(puts.count(), 2);
}

#[test]
fn many_requests_of_one_thread_are_under_way_on_one_connection() {
    let fake = Fake::start();
    let options = Options {
        in_flight_max: 7,
        connections_max: 1,
        ..Options::default()
    };
    let client = Client::connect_with(&fake.address, options).unwrap();
    let name = |n: usize| format!("key-{n}").into_bytes();
    let puts: Vec<_> = (0..500)
        .map(|n| client.begin_put(&name(n), &vec![n as u8; n], &Put::default()))
        .collect();
    puts.into_iter().for_each(|put| drop(put.wait().unwrap()));
    assert_eq!((fake.seen().len(), fake.connections()), (500, 1));
    let gets: Vec<_> = (0..500).map(|n| (n, client.begin_get(&name(n)))).collect();
    // In any order.
    for (n, get) in gets.into_iter().rev() {
        assert_eq!(get.wait().unwrap().siblings[0].value, vec![n as u8; n]);
    }
    let listed: Vec<Vec<u8>> = client.keys().map(|key| key.unwrap()).collect();
    assert_eq!(listed.len(), 500);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 500);
}

/// One breaks the connection: the others learn what that means for them, and none is done and told otherwise.
#[test]
fn a_break_in_the_middle_of_many_is_no_guess() {
    let fake = Fake::start();
    let client = client(&fake);
    let key = |n: usize| match n {
        50 => b"broken".to_vec(),
        n => format!("key-{n}").into_bytes(),
    };
    let puts: Vec<_> = (0..100)
        .map(|n| client.begin_put(&key(n), b"v", &Put::default()))
        .collect();
    let (mut acked, mut unknown) = (0, 0);
    for (n, put) in puts.into_iter().enumerate() {
        match put.wait() {
            Ok(_) => {
                acked += 1;
                assert_ne!(n, 50);
                let there = client.get(&key(n)).unwrap();
                assert_eq!(there.siblings.len(), 1, "an acked write is there");
            }
            Err(ClientError::OutcomeUnknown(_)) => unknown += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(unknown >= 1 && acked >= 1, "{acked} acked, {unknown} not");
    let mut operations: Vec<_> = fake.seen().into_iter().map(|s| s.operation).collect();
    operations.sort();
    let sent = operations.len();
    operations.dedup();
    assert_eq!(operations.len(), sent, "nothing was sent twice");
}

#[test]
fn threads_share_a_client() {
    let fake = Fake::start_with_shards(4);
    let client = Client::connect(&fake.address).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for n in 0..50 {
                    let key = format!("{thread}-{n}");
                    client
                        .put(key.as_bytes(), key.as_bytes(), &Put::default())
                        .unwrap();
                    let found = client.get(key.as_bytes()).unwrap();
                    assert_eq!(found.siblings[0].value, key.as_bytes());
                }
            });
        }
    });
    assert_eq!(fake.connections(), 5, "one a shard, and the first");
}

#[test]
fn requests_go_to_the_shard_that_owns_their_key() {
    let fake = Fake::start_with_shards(3);
    let client = client(&fake);
    for n in 0..60 {
        let key = format!("key-{n}");
        client.put(key.as_bytes(), b"v", &Put::default()).unwrap();
    }
    let map = armilla::ring::shard_map::ShardMap::even(1024, 3);
    for seen in fake.seen() {
        let position = armilla::ring::position::Position::of(b"", &seen.key);
        let owner = map.owner(position.virtual_node(1024));
        assert_eq!(seen.port, fake.shard_ports()[usize::from(owner.0)]);
    }
    // With too few connections for all, or unasked, the port of all serves.
    for options in [
        Options {
            connections_max: 3,
            ..options()
        },
        Options {
            shard_ports: false,
            ..options()
        },
    ] {
        let client = Client::connect_with(&fake.address, options).unwrap();
        client.put(b"other", b"v", &Put::default()).unwrap();
        assert_eq!(fake.seen().last().unwrap().port, fake.port());
    }
}

#[test]
fn shard_ports_out_of_reach_or_of_others_are_passed_over() {
    let unreachable = Fake::start();
    let client_of = |fake: &Fake| Client::connect(&fake.address).unwrap();
    client_of(&unreachable)
        .put(b"k", b"v", &Put::default())
        .unwrap();
    assert_eq!(unreachable.seen()[0].port, unreachable.port());

    let (fake, other) = (Fake::start(), Fake::start());
    other.become_another_node();
    fake.set_shard_ports(vec![other.port(), other.port()]);
    client_of(&fake).put(b"k", b"v", &Put::default()).unwrap();
    assert_eq!(fake.seen().len(), 1);
    assert_eq!(other.seen().len(), 0, "another node is not written to");
}

#[test]
fn an_update_merges_until_it_is_alone() {
    let fake = Fake::start();
    let client = client(&fake);
    client.put(b"set", b"a", &Put::default()).unwrap();
    fake.intrude(b"set", b"c");
    let union = |siblings: &[armilla::client::Sibling]| {
        let all = siblings.iter().flat_map(|sibling| sibling.value.clone());
        let mut all: BTreeSet<u8> = all.collect();
        all.insert(b'b');
        all.into_iter().collect::<Vec<u8>>()
    };
    let updated = client.update(b"set", union).unwrap();
    assert_eq!(updated.rounds, 2);
    assert_eq!(updated.found.siblings[0].value, b"abc");
    let puts = fake.seen();
    assert!(puts[1..].iter().all(|put| put.context == b"seen"));
    client.put(b"l", b"lost", &Put::default()).unwrap();
    let error = client.update(b"l", union).unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused {
            status: Status::ValueLost,
            ..
        }
    ));
}
