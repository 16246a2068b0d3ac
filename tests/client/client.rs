use crate::fake::Fake;
use armilla::client::{Client, ClientError, Options, Put};
use armilla::wire::message::{PutMode, Status};
use std::net::TcpListener;
use std::time::Duration;

fn client(fake: &Fake) -> Client {
    let request_timeout = Duration::from_millis(400);
    Client::connect_with(
        &fake.address,
        Options {
            request_timeout,
            ..Options::default()
        },
    )
    .unwrap()
}

#[test]
fn values_siblings_and_deletes() {
    let fake = Fake::start();
    let mut client = client(&fake);
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
fn unknown_is_said_and_never_retried() {
    for key in [&b"broken"[..], b"silent", b"rubbish", b"timeout"] {
        let fake = Fake::start();
        let mut client = client(&fake);
        let error = client.put(key, b"v", &Put::default()).unwrap_err();
        assert!(
            matches!(error, ClientError::Unknown(_)) && error.may_have_happened(),
            "{error:?}"
        );
        assert_eq!(fake.seen().len(), 1, "an unknown write is not repeated");
        let error = client.get(key).unwrap_err();
        assert!(matches!(error, ClientError::NoAnswer(_)), "{error:?}");
        client
            .put(b"k", b"v", &Put::default())
            .expect("the next request has a new connection");
    }
}

#[test]
fn a_refusal_did_not_happen() {
    let fake = Fake::start();
    let mut client = client(&fake);
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

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address).err().unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }) && !error.may_have_happened());
}
