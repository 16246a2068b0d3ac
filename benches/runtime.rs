//! The real runtime alone: messages through the event queue, reads of a large file.
//!
//! `cargo bench --bench runtime` runs a small round of each; `-- echo 64 1 5` echoes on 64 connections, 1 message
//! deep, for 5 seconds; `-- bulk 256` reads a file of 256 MiB. Times mean something only side by side in one run.

use armilla::runtime::buffer::PageBuffer;
use armilla::runtime::disk::{Open, Persist};
use armilla::runtime::glommio::{Running, run};
use armilla::runtime::net::{ConnectionId, Door, Event};
use armilla::runtime::{Runtime, glommio::RingStatistics};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const MESSAGE: usize = 128;
const MIB: usize = 1024 * 1024;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let number = |at: usize, default: u64| {
        words
            .get(at)
            .map_or(default, |w| w.parse().expect("a number"))
    };
    match words.first().map(String::as_str) {
        Some("echo") => echo(number(1, 64) as usize, number(2, 1) as usize, number(3, 5)),
        Some("bulk") => bulk(number(1, 256)),
        _ => {
            echo(8, 1, 1);
            bulk(16);
        }
    }
}

/// An echo server on CPU 0 and a blocking client on CPU 1.
fn echo(connections: usize, depth: usize, seconds: u64) {
    let (port, ports) = mpsc::channel();
    let server = run(0, move |runtime| serve(runtime, port)).expect("an executor starts");
    let address = ports.recv().expect("the server listens");
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let messages = ask(address, connections, depth, Duration::from_secs(seconds));
    let statistics = stop(server);
    println!(
        "echo, {connections} connections, {depth} deep: {} msg/s, {:.3} enters a message, {:?}",
        messages / seconds,
        statistics.enters as f64 / messages as f64,
        statistics
    );
}

fn stop(server: Running<RingStatistics>) -> RingStatistics {
    server.stop_handle().stop();
    server.join().expect("it ends in order")
}

#[derive(Default)]
struct Peer {
    gathered: Vec<u8>,
    spare: Vec<u8>,
    busy: bool,
}

async fn serve(runtime: Runtime, port: mpsc::Sender<SocketAddr>) -> RingStatistics {
    let net = runtime.net();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = net.listen(anywhere, Door::Client, true).expect("listens");
    port.send(address).expect("somebody asked");
    let mut peers: BTreeMap<ConnectionId, Peer> = BTreeMap::new();
    let mut events = Vec::new();
    loop {
        net.events(&mut events).await;
        for event in events.drain(..) {
            let connection = match event {
                Event::Accepted { connection, .. } => {
                    peers.insert(connection, Peer::default());
                    continue;
                }
                Event::Chunk { connection, bytes } => {
                    let peer = peers.get_mut(&connection).expect("accepted");
                    peer.gathered.extend_from_slice(&bytes);
                    connection
                }
                Event::Sent { connection, buffer } => {
                    let peer = peers.get_mut(&connection).expect("accepted");
                    peer.busy = false;
                    peer.spare = buffer;
                    connection
                }
                Event::Closed { connection, .. } => {
                    peers.remove(&connection);
                    continue;
                }
                Event::Ended { connection } => {
                    net.close(connection);
                    continue;
                }
                Event::Stop => return runtime.ring_statistics(),
                Event::Connected { .. }
                | Event::Asked { .. }
                | Event::Answered { .. }
                | Event::ShardEnded { .. } => continue,
            };
            let peer = peers.get_mut(&connection).expect("accepted");
            if !peer.busy && !peer.gathered.is_empty() {
                peer.busy = true;
                let next = std::mem::take(&mut peer.spare);
                net.send(connection, std::mem::replace(&mut peer.gathered, next));
            }
        }
    }
}

fn ask(address: SocketAddr, connections: usize, depth: usize, time: Duration) -> u64 {
    let mut sockets: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let socket = TcpStream::connect(address).expect("connects");
            socket.set_nodelay(true).expect("a socket");
            socket
        })
        .collect();
    let request = vec![7u8; MESSAGE * depth];
    let mut reply = vec![0u8; MESSAGE * depth];
    let begin = Instant::now();
    let mut messages = 0;
    while begin.elapsed() < time {
        for socket in &mut sockets {
            socket.write_all(&request).expect("sent");
        }
        for socket in &mut sockets {
            socket.read_exact(&mut reply).expect("answered");
            assert_eq!(reply, request);
        }
        messages += (connections * depth) as u64;
    }
    messages
}

/// Reads a file from end to end in bulk, through our ring and through glommio's DmaFile.
fn bulk(mib: u64) {
    let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bulk");
    let directory = root.clone();
    let server = run(0, move |runtime| async move {
        let disk = runtime.disk(&directory);
        disk.create_dir("").await.expect("a directory");
        let len = mib * MIB as u64;
        let file = disk
            .open("file", Open::Create { len })
            .await
            .expect("a file");
        let mut buffer = PageBuffer::zeroed(MIB);
        buffer.fill(7);
        for at in 0..mib {
            let (back, done) = file
                .write_at(at * MIB as u64, buffer, MIB, Persist::Later)
                .await;
            done.expect("written");
            buffer = back;
        }
        file.sync().await.expect("synced");
        for round in 0..3 {
            for (name, piece) in [("128 KiB", MIB / 8), ("1 MiB", MIB), ("8 MiB", 8 * MIB)] {
                let begin = Instant::now();
                for at in (0..len).step_by(piece) {
                    let read = file.read_bulk_at(at, piece).await.expect("read");
                    assert_eq!(read[piece - 1], 7);
                }
                println!("bulk {round}, ring, {name}: {:.0} MB/s", rate(len, begin));
            }
            for (name, piece) in [("128 KiB", MIB / 8), ("1 MiB", MIB)] {
                let file = glommio::io::DmaFile::open(directory.join("file"))
                    .await
                    .expect("open");
                let begin = Instant::now();
                for at in (0..len).step_by(piece) {
                    let read = file.read_at_aligned(at, piece).await.expect("read");
                    assert_eq!(read[piece - 1], 7);
                }
                println!(
                    "bulk {round}, DmaFile, {name}: {:.0} MB/s",
                    rate(len, begin)
                );
                file.close().await.expect("closed");
            }
        }
    });
    server.expect("an executor starts").join().expect("it ends");
    std::fs::remove_dir_all(root).expect("it was made above");
}

fn rate(bytes: u64, begin: Instant) -> f64 {
    bytes as f64 / 1e6 / begin.elapsed().as_secs_f64()
}
