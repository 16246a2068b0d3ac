//! The network as events, its peers reached by the same verbs.

use crate::support::Events;
use armilla::runtime::Runtime;
use armilla::runtime::net::{Door, Event};
use std::net::SocketAddr;

pub fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What is sent comes back, whole and in order.
pub async fn echo(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = net.listen(anywhere(), Door::Client, true).expect("listens");
    let client = net.connect(address);
    let sent: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let (mut server, mut back) = (None, Vec::new());
    let mut unsent = Vec::new();
    let mut busy = false;
    while back.len() < sent.len() {
        match events.next().await {
            Event::Accepted {
                connection, door, ..
            } => {
                assert_eq!(door, Door::Client);
                server = Some(connection);
            }
            Event::Connected { connection } => {
                assert_eq!(connection, client);
                net.send(client, sent.clone());
            }
            Event::Chunk { connection, bytes } if connection == client => {
                back.extend_from_slice(&bytes);
            }
            Event::Chunk { connection, bytes } => {
                assert_eq!(Some(connection), server);
                unsent.extend_from_slice(&bytes);
                if !busy {
                    busy = true;
                    net.send(connection, std::mem::take(&mut unsent));
                }
            }
            Event::Sent { connection, buffer } => {
                assert!(buffer.is_empty());
                if Some(connection) == server {
                    busy = !unsent.is_empty();
                    if busy {
                        net.send(connection, std::mem::take(&mut unsent));
                    }
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(back, sent);
    let server = server.expect("accepted");
    net.close(client);
    let mut ended = Vec::new();
    while ended.len() < 2 {
        if let Event::Closed { connection, .. } = events.next().await {
            ended.push(connection);
        }
    }
    assert!(ended.contains(&client) && ended.contains(&server));
}
