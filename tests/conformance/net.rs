//! The network as events, its peers reached by the same verbs.

use crate::support::{Events, anywhere, listen, pattern};
use armilla::runtime::net::{CloseReason, ConnectionId, Door, Event, ListenError};
use armilla::runtime::{Queue, Runtime};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is sent comes back, whole and in order, with one send in flight an end.
pub async fn echo(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    let sent = pattern(1_000_000, 0);
    net.send(client, sent.clone());
    let (mut back, mut gathered, mut busy) = (Vec::new(), Vec::new(), false);
    while back.len() < sent.len() {
        match events.next().await {
            Event::Chunk { connection, bytes } if connection == client => {
                back.extend_from_slice(&bytes);
            }
            Event::Chunk { connection, bytes } => {
                assert_eq!(connection, server);
                gathered.extend_from_slice(&bytes);
            }
            Event::Sent { connection, buffer } => {
                assert!(buffer.is_empty(), "a buffer comes back cleared");
                busy &= connection != server;
            }
            other => panic!("unexpected {other:?}"),
        }
        if !busy && !gathered.is_empty() {
            busy = true;
            net.send(server, std::mem::take(&mut gathered));
        }
    }
    assert!(back == sent);
    net.close(client);
    let mut reasons = BTreeMap::new();
    while reasons.len() < 2 {
        if let Event::Closed { connection, reason } = events.next().await {
            assert_eq!(reasons.insert(connection, reason), None, "closed once");
        }
    }
    assert_eq!(reasons[&client], CloseReason::Finished);
    assert_eq!(reasons[&server], CloseReason::Finished);
}

/// Nothing new comes while paused, and nothing is lost by it.
pub async fn pause_and_resume(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    let mut sent = Vec::new();
    for round in 0..20 {
        net.pause(server);
        while events.within(Duration::from_millis(5)).await.is_some() {}
        let part = pattern(1000, round);
        net.send(client, part.clone());
        sent.extend_from_slice(&part);
        while let Some(event) = events.within(Duration::from_millis(5)).await {
            assert!(
                matches!(event, Event::Sent { .. }),
                "{event:?} while paused"
            );
        }
        net.resume(server);
        net.pause(server);
        net.resume(server);
        assert!(events.bytes(server, 1000).await == part);
    }
}

/// More data than there are receive buffers while all leases are held: it waits, and comes when leases go.
pub async fn exhausted_buffers_lose_nothing(runtime: &Runtime) {
    const CONNECTIONS: usize = 150;
    const BYTES: usize = 150_000;
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let mut servers: BTreeMap<ConnectionId, Vec<u8>> = BTreeMap::new();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, server) = events.pair(address).await;
        clients.push(client);
        servers.insert(server, Vec::new());
    }
    for &client in &clients {
        net.send(client, pattern(BYTES, 0));
    }
    let mut held = Vec::new();
    while let Some(event) = events.within(Duration::from_millis(200)).await {
        if let Event::Chunk { .. } = event {
            held.push(event);
        }
    }
    let here: usize = held.iter().map(chunk_len).sum();
    assert!(
        here < CONNECTIONS * BYTES,
        "the limit on leases held nothing back"
    );
    let mut all = 0;
    for event in held {
        all += take(&mut servers, event);
    }
    while all < CONNECTIONS * BYTES {
        let event = events.next().await;
        all += take(&mut servers, event);
    }
    for bytes in servers.values() {
        assert!(*bytes == pattern(BYTES, 0));
    }
}

fn chunk_len(event: &Event) -> usize {
    match event {
        Event::Chunk { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

fn take(servers: &mut BTreeMap<ConnectionId, Vec<u8>>, event: Event) -> usize {
    match event {
        Event::Chunk { connection, bytes } => {
            let all = servers.get_mut(&connection).expect("accepted");
            all.extend_from_slice(&bytes);
            bytes.len()
        }
        Event::Sent { .. } => 0,
        other => panic!("unexpected {other:?}"),
    }
}

pub async fn refused_connect(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    net.stop_listening();
    runtime.sleep(Duration::from_millis(20)).await;
    let client = net.connect(address);
    const REFUSED: i32 = 111;
    assert_eq!(events.closed(client).await, CloseReason::Failed(REFUSED));
}

/// Verbs on an id that has ended change nothing, and reach no later connection of the same slot.
pub async fn stale_ids_are_nothing(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (old, server) = events.pair(address).await;
    net.close(old);
    let mut open = BTreeSet::from([old, server]);
    while !open.is_empty() {
        if let Event::Closed { connection, .. } = events.next().await {
            assert!(open.remove(&connection));
        }
    }
    let (client, server) = events.pair(address).await;
    assert!(client != old && server != old);
    net.send(old, vec![1; 10]);
    net.pause(old);
    net.close(old);
    net.send(client, vec![2; 10]);
    assert_eq!(events.bytes(server, 10).await, [2; 10]);
}

/// All that was handed to `send` before `close` arrives, also when the peer takes its time.
pub async fn close_comes_after_the_send(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    let sent = pattern(3_000_000, 5);
    net.pause(server);
    net.send(client, sent.clone());
    net.close(client);
    runtime.sleep(Duration::from_millis(50)).await;
    net.resume(server);
    let (mut came, mut order) = (Vec::new(), Vec::new());
    loop {
        match events.next().await {
            Event::Chunk { bytes, .. } => came.extend_from_slice(&bytes),
            Event::Sent { .. } => order.push("sent"),
            Event::Closed { connection, .. } if connection == client => order.push("closed"),
            Event::Closed { .. } => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(came == sent);
    assert_eq!(order, ["sent", "closed"]);
}

pub async fn stop_listening(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.stop_listening();
    runtime.sleep(Duration::from_millis(20)).await;
    let late = net.connect(address);
    assert!(matches!(events.closed(late).await, CloseReason::Failed(_)));
    net.send(client, vec![3; 10]);
    assert_eq!(
        events.bytes(server, 10).await,
        [3; 10],
        "those that are open go on"
    );
}

pub async fn exclusive_doors(runtime: &Runtime) {
    let net = runtime.net();
    let alone = listen(&net);
    for exclusive in [true, false] {
        match net.listen(alone, Door::Client, exclusive) {
            Err(ListenError::InUse { address, holder }) => {
                assert_eq!(address, alone);
                assert!(!holder.is_empty());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    let shared = net
        .listen(anywhere(), Door::Client, false)
        .expect("listens");
    net.listen(shared, Door::Client, false)
        .expect("a base port is shared");
}

pub async fn empty_send(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, _) = events.pair(address).await;
    net.send(client, Vec::new());
    events
        .until(|e| {
            matches!(e, Event::Sent { connection, .. } if connection == client).then_some(())
        })
        .await;
}

/// Rule 1: a send queued by a timer's task while the network is idle does not wait for other traffic.
pub async fn timer_reply_leaves_at_once(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    let mut waits = Vec::new();
    for _ in 0..25 {
        let (here, from) = (runtime.clone(), runtime.net());
        runtime.spawn(Queue::Foreground, async move {
            here.sleep(Duration::from_millis(4)).await;
            from.send(client, here.now().0.to_le_bytes().to_vec());
        });
        let bytes = events.bytes(server, 8).await;
        let left = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        waits.push(Duration::from_nanos(runtime.now().0 - left));
        // The send has been reported before the next one begins.
        while events.within(Duration::from_millis(2)).await.is_some() {}
    }
    waits.sort();
    assert!(
        waits[waits.len() / 2] < Duration::from_millis(1),
        "{waits:?}"
    );
}

/// Connections that come and go in the same slots never see each other's bytes or ends.
pub async fn reused_slots(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    for round in 0..200u32 {
        let (client, server) = events.pair(address).await;
        let sent = pattern(100, round as usize);
        net.send(client, sent.clone());
        assert!(events.bytes(server, 100).await == sent);
        // The server's bytes are on their way when both ends close.
        net.send(server, vec![0xEE; 5000]);
        net.close(client);
        if round % 2 == 0 {
            net.close(server);
        }
    }
}
