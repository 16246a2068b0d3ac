//! The network verbs of a shard, and its listeners.
#![allow(unsafe_code)]

use super::Shard;
use super::connections::{Connections, id_of};
use super::ring::{Completion, Kind, Ring, Tag};
use super::sockets::{self, RawAddress};
use crate::runtime::net::{CloseReason, ConnectionId, Door, Event, ListenError};
use io_uring::{opcode, types::Fd};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How long an accept waits after the process or the machine ran out of descriptors or memory.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

struct Listener {
    /// None once it is closed; places are never used again, for there are few.
    socket: Option<TcpListener>,
    door: Door,
    armed: bool,
}

/// What the pump knows of the network.
#[derive(Default)]
pub(super) struct Network {
    pub(super) connections: Connections,
    listeners: Vec<Listener>,
    stopping: bool,
    /// Listeners whose accept is to be tried again after `ACCEPT_RETRY`.
    pub(super) accept_later: Vec<u32>,
}

impl Network {
    pub(super) fn accept(&mut self, ring: &Ring, slot: u32) {
        let listener = &mut self.listeners[slot as usize];
        let Some(socket) = &listener.socket else {
            return;
        };
        if self.stopping || listener.armed {
            return;
        }
        listener.armed = true;
        let entry = opcode::AcceptMulti::new(Fd(socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: it points to nothing, and the socket is closed only when the accept has ended.
        unsafe { ring.push(entry.user_data(accept_tag(Kind::Accept, slot))) };
    }

    fn stop(&mut self, ring: &Ring) {
        self.stopping = true;
        for (slot, listener) in self.listeners.iter_mut().enumerate() {
            if listener.armed {
                let entry = opcode::AsyncCancel::new(accept_tag(Kind::Accept, slot as u32)).build();
                // SAFETY: a cancel points to nothing.
                unsafe { ring.push(entry.user_data(accept_tag(Kind::Cancel, slot as u32))) };
            } else {
                listener.socket = None;
            }
        }
    }

    fn on_accept(&mut self, ring: &Ring, completion: Completion) {
        let slot = completion.tag.slot;
        if completion.result >= 0 {
            let socket = TcpStream::from(sockets::owned(completion.result));
            // A peer that reset the connection meanwhile has no address any more: nobody needs to hear of it.
            if let (Ok(peer), false) = (socket.peer_addr(), self.stopping) {
                let _ = socket.set_nodelay(true);
                let connection = self.connections.accepted(ring, socket);
                self.connections.events.push(Event::Accepted {
                    connection,
                    door: self.listeners[slot as usize].door,
                    peer,
                });
            }
        }
        if completion.more {
            return;
        }
        let listener = &mut self.listeners[slot as usize];
        listener.armed = false;
        if self.stopping {
            listener.socket = None;
            return;
        }
        match -completion.result {
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => {
                self.accept_later.push(slot);
            }
            _ => self.accept(ring, slot),
        }
    }

    pub(super) fn on_completion(&mut self, shard: &Shard, completion: Completion) {
        let ring = &shard.0.ring;
        let id = id_of(completion.tag);
        match completion.tag.kind {
            Kind::Accept => self.on_accept(ring, completion),
            Kind::Connect => self.connections.on_connect(ring, id, completion.result),
            Kind::Receive => self.connections.on_receive(ring, &shard.0.pool, completion),
            Kind::Send => self.connections.on_send(ring, id, completion.result),
            Kind::Cancel | Kind::Disk | Kind::Doorbell | Kind::Mail => {
                unreachable!("not of the network")
            }
        }
    }

    /// Ends everything; the pump drains what is in flight.
    pub(super) fn end(&mut self, ring: &Ring) {
        self.stop(ring);
        self.connections.end_all(ring);
    }
}

fn accept_tag(kind: Kind, slot: u32) -> u64 {
    Tag {
        kind,
        slot,
        generation: 0,
    }
    .encode()
}

/// A listening socket that no shard accepts from yet: connections wait in its backlog.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    address: SocketAddr,
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The network plane of one shard.
#[derive(Clone)]
pub struct Net(pub(super) Shard);

impl Net {
    pub fn bind(&self, address: SocketAddr, exclusive: bool) -> Result<Bound, ListenError> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => ListenError::InUse {
                address,
                holder: super::holder::of_address(address).to_string(),
            },
            _ => ListenError::Os { address, source },
        };
        let socket = sockets::listening_socket(address, exclusive).map_err(failed)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr().map_err(failed)?;
        Ok(Bound { socket, address })
    }

    pub fn open(&self, bound: Bound, door: Door) {
        let mut network = self.0.0.network.borrow_mut();
        network.listeners.push(Listener {
            socket: Some(bound.socket),
            door,
            armed: false,
        });
        let slot = network.listeners.len() as u32 - 1;
        network.accept(&self.0.0.ring, slot);
        drop(network);
        self.0.0.bell.ring();
    }

    pub fn stop_listening(&self) {
        self.queue(|network, ring| network.stop(ring));
    }

    pub fn connect(&self, address: SocketAddr) -> ConnectionId {
        let socket = sockets::stream_socket(&address);
        let id = self.queue(|network, ring| match socket {
            Ok(socket) => {
                network
                    .connections
                    .connect(ring, socket.into(), RawAddress::new(address))
            }
            Err(e) => network
                .connections
                .stillborn(e.raw_os_error().unwrap_or(libc::EIO)),
        });
        id.unwrap_or(ConnectionId {
            slot: u32::MAX,
            generation: 0,
        })
    }

    pub fn send(&self, connection: ConnectionId, buffer: Vec<u8>) {
        self.queue(|network, ring| network.connections.send(ring, connection, buffer));
    }

    pub fn pause(&self, connection: ConnectionId) {
        self.queue(|network, ring| network.connections.pause(ring, connection, true));
    }

    pub fn resume(&self, connection: ConnectionId) {
        self.queue(|network, ring| network.connections.pause(ring, connection, false));
    }

    pub fn close(&self, connection: ConnectionId) {
        self.queue(|network, ring| {
            network
                .connections
                .end(ring, connection, CloseReason::Finished);
        });
    }

    pub async fn events(&self, events: &mut Vec<Event>) {
        loop {
            {
                let mut network = self.0.0.network.borrow_mut();
                let arrived = &mut network.connections.events;
                if !arrived.is_empty() {
                    events.append(arrived);
                    return;
                }
            }
            self.0.0.arrived.notified().await;
        }
    }

    /// Runs a verb and wakes whom it concerns; does nothing once the shard ends.
    fn queue<T>(&self, verb: impl FnOnce(&mut Network, &Ring) -> T) -> Option<T> {
        let shard = &self.0.0;
        if shard.ending.get() {
            return None;
        }
        let mut network = shard.network.borrow_mut();
        let result = verb(&mut network, &shard.ring);
        let arrived = !network.connections.events.is_empty();
        drop(network);
        if arrived {
            shard.arrived.notify();
        }
        shard.bell.ring();
        Some(result)
    }
}
