//! The network side of the facade.

mod ends;
pub(super) mod fabric;
pub(super) mod ports;
mod stream;
#[cfg(test)]
mod tests;

use super::process::Process;
use crate::runtime::net::{ConnectionId, Door, Event, ListenError};
use fabric::{Listener, ip_of, resolve};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

#[derive(Clone)]
pub struct Net {
    process: Process,
}

impl Net {
    pub(super) fn new(process: Process) -> Net {
        Net { process }
    }

    pub fn bind(&self, address: SocketAddr, exclusive: bool) -> Result<Bound, ListenError> {
        let process = self.process.id;
        let bound = self.process.live(|state| {
            let machine = state.process(process).machine;
            let mut bound = resolve(machine, address);
            if bound.ip() != ip_of(machine) {
                let source = std::io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
                return Err(ListenError::Os { address, source });
            }
            if bound.port() == 0 {
                bound.set_port(state.fabric.ephemeral_port());
            }
            let there = state.fabric.listeners.entry(bound).or_default();
            if let Some(holder) = there.iter().find(|other| exclusive || other.exclusive) {
                let holder = format!("process {}", holder.process.0);
                return Err(ListenError::InUse { address, holder });
            }
            there.push(Listener {
                process,
                door: Door::Client,
                exclusive,
                open: false,
            });
            Ok(SocketAddr::new(address.ip(), bound.port()))
        });
        let address = bound.unwrap_or(Ok(address))?;
        Ok(Bound { address, exclusive })
    }

    pub fn open(&self, bound: Bound, door: Door) {
        let process = self.process.id;
        self.process.live(|state| {
            let address = resolve(state.process(process).machine, bound.address);
            let there = state.fabric.listeners.entry(address).or_default();
            // The process that bound it may have ended meanwhile.
            if let Some(held) = there.iter().position(|listener| !listener.open) {
                there.remove(held);
            }
            there.push(Listener {
                process,
                door,
                exclusive: bound.exclusive,
                open: true,
            });
        });
    }

    pub fn stop_listening(&self) {
        let process = self.process.id;
        self.process.live(|state| state.net_stop_listening(process));
    }

    pub fn connect(&self, address: SocketAddr) -> ConnectionId {
        let process = self.process.id;
        let id = self
            .process
            .live(|state| state.net_connect(process, address));
        // Nobody hears of this one any more.
        id.unwrap_or(ConnectionId {
            slot: u32::MAX,
            generation: 0,
        })
    }

    pub fn send(&self, connection: ConnectionId, buffer: Vec<u8>) {
        let process = self.process.id;
        self.process
            .live(|state| state.net_send(process, connection, buffer));
    }

    pub fn pause(&self, connection: ConnectionId) {
        let process = self.process.id;
        self.process
            .live(|state| state.net_pause(process, connection, true));
    }

    pub fn resume(&self, connection: ConnectionId) {
        let process = self.process.id;
        self.process
            .live(|state| state.net_pause(process, connection, false));
    }

    pub fn close(&self, connection: ConnectionId) {
        let process = self.process.id;
        self.process
            .live(|state| state.net_close(process, connection));
    }

    pub async fn events(&self, events: &mut Vec<Event>) {
        let process = self.process.id;
        let mut taken = std::future::poll_fn(|context| {
            let taken = self.process.live(|state| {
                if let Some(seat) = state.process(process).seat
                    && state.process(process).ports.has_events()
                {
                    state.mail_looked(seat);
                }
                let taken = state.process(process).ports.take(context.waker());
                for event in &taken {
                    if let Event::Chunk { connection, bytes } = event {
                        state.net_taken(process, *connection, bytes.len());
                    }
                }
                taken
            });
            match taken {
                Some(taken) if !taken.is_empty() => Poll::Ready(taken),
                Some(_) | None => Poll::Pending,
            }
        })
        .await;
        events.append(&mut taken);
    }
}

/// An address that is held and not listened on yet.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    exclusive: bool,
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Received bytes. A drop touches no state of the world, which may be borrowed: it leaves a note.
pub struct Lease {
    bytes: Vec<u8>,
    endpoint: u64,
    held: Rc<Cell<u32>>,
    returned: Rc<RefCell<Vec<u64>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.set(self.held.get() - 1);
        self.returned.borrow_mut().push(self.endpoint);
    }
}

impl std::ops::Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
