//! The network as events, its peers reached by the same verbs.

use crate::support::{Events, anywhere, listen, pattern};
use armilla::base::limits::CLOSE_DRAIN_BYTES_MAX;
use armilla::runtime::net::{CloseReason, ConnectionId, Door, Event, LINGER, ListenError};
use armilla::runtime::time::timeout;
use armilla::runtime::{Queue, Runtime};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let (mut came, mut order, mut open) = (Vec::new(), Vec::new(), 2);
    while open > 0 {
        match events.next().await {
            Event::Chunk { bytes, .. } => came.extend_from_slice(&bytes),
            Event::Sent { .. } => order.push("sent"),
            Event::Ended { connection } => assert_eq!(connection, server),
            Event::Closed { connection, .. } => {
                open -= 1;
                if connection == client {
                    order.push("closed");
                }
            }
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

/// A second send while one is in flight, or one before `Connected`, is the caller's bug, and does no harm to the first.
pub async fn misuse_is_a_panic(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    let panics = |id| catch_unwind(AssertUnwindSafe(|| net.send(id, vec![9]))).is_err();
    let sent = pattern(100_000, 1);
    net.send(client, sent.clone());
    assert!(panics(client), "one send in flight a connection");
    assert!(events.bytes(server, sent.len()).await == sent);
    let connecting = net.connect(address);
    assert!(panics(connecting), "a send waits for Connected");
}

/// The answer to a connect that was closed at once is one `Closed`.
pub async fn close_while_connecting(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    for round in 0..20 {
        let client = net.connect(address);
        if round % 2 == 0 {
            runtime.yield_now().await;
        }
        net.close(client);
        net.close(client);
        assert_eq!(events.closed(client).await, CloseReason::Finished);
    }
    while events.within(Duration::from_millis(20)).await.is_some() {}
}

/// Bytes that waited behind a pause do not come once the connection was closed here, resumed or not.
pub async fn nothing_comes_after_a_close(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.pause(client);
    while events.within(Duration::from_millis(5)).await.is_some() {}
    net.send(server, pattern(10_000, 0));
    while events.within(Duration::from_millis(5)).await.is_some() {}
    net.close(client);
    net.resume(client);
    let mut open = BTreeSet::from([client, server]);
    while !open.is_empty() {
        match events.next().await {
            Event::Closed { connection, .. } => assert!(open.remove(&connection)),
            Event::Chunk { .. } => panic!("bytes of a closed connection"),
            _ => {}
        }
    }
}

/// While paused not even the peer's end of stream is told; then it comes after the bytes before it.
pub async fn the_end_waits_for_resume(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.pause(server);
    while events.within(Duration::from_millis(5)).await.is_some() {}
    net.send(client, pattern(50_000, 0));
    net.close(client);
    while let Some(event) = events.within(Duration::from_millis(20)).await {
        let of_client = matches!(
            event,
            Event::Sent { connection, .. } | Event::Closed { connection, .. } if connection == client
        );
        assert!(of_client, "{event:?} while paused");
    }
    net.resume(server);
    assert!(events.bytes(server, 50_000).await == pattern(50_000, 0));
    assert_eq!(events.closed(server).await, CloseReason::Finished);
}

/// Rule 9: whose leases are held gets no more, while others go on; and all of it comes when they go.
pub async fn held_leases_hold_one_connection(runtime: &Runtime) {
    // More than the sockets of both ends and one turn of the ring take.
    const BYTES: usize = 20_000_000;
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (greedy, slow) = events.pair(address).await;
    let (client, server) = events.pair(address).await;
    net.send(greedy, pattern(BYTES, 3));
    let mut held = Vec::new();
    while let Some(event) = events.within(Duration::from_millis(30)).await {
        if let Event::Chunk { connection, bytes } = event {
            assert_eq!(connection, slow);
            held.push(bytes);
        }
    }
    let mut came: Vec<u8> = held.iter().flat_map(|lease| lease.to_vec()).collect();
    assert!(came.len() < BYTES, "held leases hold nothing back");
    net.send(client, vec![1; 10]);
    assert_eq!(events.bytes(server, 10).await, [1; 10]);
    drop(held);
    let rest = events.bytes(slow, BYTES - came.len()).await;
    came.extend(rest);
    assert!(came == pattern(BYTES, 3));
}

/// A peer that takes nothing holds up a close for `LINGER`, no longer.
pub async fn close_does_not_wait_for_ever(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.pause(server);
    // More than the sockets of both ends take.
    net.send(client, pattern(20_000_000, 0));
    runtime.sleep(Duration::from_millis(20)).await;
    let begin = runtime.now();
    net.close(client);
    let sent =
        |e| matches!(e, Event::Sent { connection, .. } if connection == client).then_some(());
    events.until(sent).await;
    assert_eq!(events.closed(client).await, CloseReason::Finished);
    let waited = Duration::from_nanos(runtime.now().0 - begin.0);
    assert!(
        (LINGER..LINGER * 2).contains(&waited),
        "closed after {waited:?}"
    );
}

/// A send that the peer's end cuts off is reported before the end is.
pub async fn a_cut_send_is_reported(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.pause(server);
    net.send(client, pattern(20_000_000, 0));
    runtime.sleep(Duration::from_millis(20)).await;
    net.close(server);
    let sent =
        |e| matches!(e, Event::Sent { connection, .. } if connection == client).then_some(());
    events.until(sent).await;
    events.closed(client).await;
}

/// What was sent before a close arrives, although bytes of the peer were never read here, more than the sockets hold,
/// and although the peer reads only after all that.
pub async fn a_reply_outlives_unread_bytes(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    net.pause(server);
    net.pause(client);
    while events.within(Duration::from_millis(5)).await.is_some() {}
    net.send(client, pattern(8_000_000, 0));
    runtime.sleep(Duration::from_millis(10)).await;
    net.send(server, pattern(300, 7));
    net.close(server);
    let sent =
        |e| matches!(e, Event::Sent { connection, .. } if connection == client).then_some(());
    events.until(sent).await;
    net.resume(client);
    assert!(events.bytes(client, 300).await == pattern(300, 7));
    events.closed(client).await;
}

/// A peer that ended its half still gets what is sent to it, before the owner closes and also between.
pub async fn a_half_closed_peer_is_answered(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (client, server) = events.pair(address).await;
    events.closes_at_end = false;
    net.send(client, pattern(1_000, 0));
    net.close(client);
    assert!(events.bytes(server, 1_000).await == pattern(1_000, 0));
    let ended = |e| matches!(e, Event::Ended { connection } if connection == server).then_some(());
    events.until(ended).await;
    for _ in 0..2 {
        net.send(server, pattern(100_000, 1));
        let sent =
            |e| matches!(e, Event::Sent { connection, .. } if connection == server).then_some(());
        events.until(sent).await;
    }
    net.close(server);
    let mut open = BTreeSet::from([client, server]);
    while !open.is_empty() {
        if let Event::Closed { connection, reason } = events.next().await {
            assert_eq!(reason, CloseReason::Finished);
            assert!(open.remove(&connection));
        }
    }
}

/// A peer that sends on and on, or never ends, holds a closed connection for `LINGER` at most.
pub async fn a_close_waits_for_the_peers_end_but_not_for_ever(runtime: &Runtime) {
    let net = runtime.net();
    let mut events = Events::of(runtime);
    let address = listen(&net);
    let (_client, server) = events.pair(address).await;
    events.closes_at_end = false;
    let begin = runtime.now();
    net.close(server);
    assert_eq!(events.closed(server).await, CloseReason::Finished);
    let waited = Duration::from_nanos(runtime.now().0 - begin.0);
    assert!(
        (LINGER..LINGER * 2).contains(&waited),
        "closed after {waited:?}"
    );

    let (client, server) = events.pair(address).await;
    let begin = runtime.now();
    net.close(server);
    net.send(client, pattern(2 * CLOSE_DRAIN_BYTES_MAX, 0));
    let mut open = BTreeSet::from([client, server]);
    while !open.is_empty() {
        if let Event::Closed { connection, reason } = events.next().await {
            let cut = connection == client;
            assert_eq!(matches!(reason, CloseReason::Failed(_)), cut, "{reason:?}");
            assert!(open.remove(&connection));
        }
    }
    assert!(Duration::from_nanos(runtime.now().0 - begin.0) < LINGER);
}

/// Events go to the end of what the caller has already, and that does not count as news.
pub async fn events_are_added_and_waited_for(runtime: &Runtime) {
    let net = runtime.net();
    let mut all = vec![Event::Stop];
    let time = Duration::from_millis(10);
    assert_eq!(timeout(runtime, time, net.events(&mut all)).await, None);
    let client = net.connect(listen(&net));
    net.events(&mut all).await;
    assert!(matches!(all[0], Event::Stop) && all.len() > 1);
    net.close(client);
}
