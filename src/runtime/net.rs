//! The network as an event queue: sockets never appear above this file.

use super::mailbox::Ticket;
use crate::base::units::Nanos;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a send in flight, or a peer that does not end its stream, may keep a closed connection open; what has not
/// left by then is lost.
pub const LINGER: Duration = Duration::from_secs(2);

/// A connection of this executor: a slot and the generation of its use, so that a late event never hits a new
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// Which listener a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The client port and the shard ports.
    Client,
    /// The admin port.
    Admin,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We closed.
    Finished,
    /// An errno, for example 104 for a reset.
    Failed(i32),
}

/// What happened, in order for each connection: `Accepted` or `Connected`, then chunks and sents, after the last chunk
/// at most one `Ended`, then one `Closed`.
#[derive(Debug)]
pub enum Event {
    Accepted {
        connection: ConnectionId,
        door: Door,
        peer: SocketAddr,
    },
    /// The answer to `connect`; a failure is a `Closed` instead.
    Connected { connection: ConnectionId },
    /// Bytes as they arrived, cut and merged anyhow. Dropping the lease gives the buffer back to the ring.
    Chunk {
        connection: ConnectionId,
        bytes: Lease,
    },
    /// The whole of the buffer handed to `send` left, or will never; the buffer comes back, cleared, for reuse.
    Sent {
        connection: ConnectionId,
        buffer: Vec<u8>,
    },
    /// The peer sent its end of stream: no further chunk comes. Sends still go, for a peer may end its half and wait
    /// for replies; the owner closes when it has nothing to say.
    Ended { connection: ConnectionId },
    /// Nothing more comes from this id. A send in flight has been reported before.
    Closed {
        connection: ConnectionId,
        reason: CloseReason,
    },
    /// Another shard asks: to be answered once, by `Mailbox::answer`.
    Asked {
        ticket: Ticket,
        deadline: Nanos,
        bytes: Box<[u8]>,
    },
    /// The answer to the ask that was given this tag.
    Answered { tag: u64, bytes: Box<[u8]> },
    /// Another shard has ended: what it has not answered by now it never will.
    ShardEnded { shard: u16 },
    /// Somebody asked this process to stop (SIGTERM, first Ctrl-C).
    Stop,
}

/// Received bytes; holds one receive buffer of the ring (or, under simulation, owned bytes) until dropped. A connection
/// of which `RECV_BUFFERS_PER_CONNECTION_MAX` are held gets no further chunk until one is dropped, or few (rule 9).
pub enum Lease {
    Glommio(super::glommio::Lease),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Lease),
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}

impl std::ops::Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Lease::Glommio(x) => x.deref(),
            #[cfg(feature = "sim")]
            Lease::Simulated(x) => x.deref(),
        }
    }
}

/// An address that this process holds.
#[derive(Debug)]
pub enum Bound {
    Glommio(super::glommio::Bound),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Bound),
}

impl Bound {
    /// With the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        match self {
            Bound::Glommio(x) => x.address(),
            #[cfg(feature = "sim")]
            Bound::Simulated(x) => x.address(),
        }
    }
}

/// The network plane; clones are the same one. None of the verbs blocks; each answers through events.
#[derive(Clone)]
pub enum Net {
    Glommio(super::glommio::Net),
    #[cfg(feature = "sim")]
    Simulated(super::simulated::Net),
}

impl Net {
    /// Takes an address, for this executor or another of the process to `open`. `exclusive`: without SO_REUSEPORT, so
    /// that a second process meets "address in use". Port 0 lets the system choose.
    pub fn bind(&self, address: SocketAddr, exclusive: bool) -> Result<Bound, ListenError> {
        match self {
            Net::Glommio(x) => x.bind(address, exclusive).map(Bound::Glommio),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.bind(address, exclusive).map(Bound::Simulated),
        }
    }
    /// Accepts what comes to a bound address.
    pub fn open(&self, bound: Bound, door: Door) {
        match (self, bound) {
            (Net::Glommio(x), Bound::Glommio(bound)) => x.open(bound, door),
            #[cfg(feature = "sim")]
            (Net::Simulated(x), Bound::Simulated(bound)) => x.open(bound, door),
            #[cfg(feature = "sim")]
            (Net::Glommio(_), Bound::Simulated(_)) | (Net::Simulated(_), Bound::Glommio(_)) => {
                panic!("bound by the other backend")
            }
        }
    }
    /// Binds and opens; the bound address is returned.
    pub fn listen(
        &self,
        address: SocketAddr,
        door: Door,
        exclusive: bool,
    ) -> Result<SocketAddr, ListenError> {
        let bound = self.bind(address, exclusive)?;
        let address = bound.address();
        self.open(bound, door);
        Ok(address)
    }
    /// No further connection is accepted at any door; those in the backlog are reset.
    pub fn stop_listening(&self) {
        match self {
            Net::Glommio(x) => x.stop_listening(),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.stop_listening(),
        }
    }
    /// Begins a connection; answered by `Connected` or `Closed`.
    pub fn connect(&self, address: SocketAddr) -> ConnectionId {
        match self {
            Net::Glommio(x) => x.connect(address),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.connect(address),
        }
    }
    /// Sends all of `buffer`. At most one send a connection is in flight: the caller gathers the next batch until
    /// `Sent`. A second one, or one before `Connected`, is the caller's bug and panics. On a closed or unknown
    /// connection the buffer is dropped.
    pub fn send(&self, connection: ConnectionId, buffer: Vec<u8>) {
        match self {
            Net::Glommio(x) => x.send(connection, buffer),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.send(connection, buffer),
        }
    }
    /// No further chunk after those already received, until `resume`; nor the peer's end of stream.
    pub fn pause(&self, connection: ConnectionId) {
        match self {
            Net::Glommio(x) => x.pause(connection),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.pause(connection),
        }
    }
    pub fn resume(&self, connection: ConnectionId) {
        match self {
            Net::Glommio(x) => x.resume(connection),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.resume(connection),
        }
    }
    /// Ends the connection after the send in flight, if any; answered by `Closed`. What the peer still sends is taken
    /// and thrown away until its own end of stream, for at most `LINGER` and `CLOSE_DRAIN_BYTES_MAX`: bytes left unread
    /// would make the kernel send a reset, which destroys what the peer has not read yet. Paused or not.
    pub fn close(&self, connection: ConnectionId) {
        match self {
            Net::Glommio(x) => x.close(connection),
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.close(connection),
        }
    }
    /// Waits until there is at least one event and moves all that there are to the end of `events`.
    /// One task of the executor calls this.
    pub async fn events(&self, events: &mut Vec<Event>) {
        match self {
            Net::Glommio(x) => x.events(events).await,
            #[cfg(feature = "sim")]
            Net::Simulated(x) => x.events(events).await,
        }
    }
}

/// Why `listen` failed: the address, and who holds it where that can be known.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: used by {holder}")]
    InUse { address: SocketAddr, holder: String },
    #[error("cannot listen on {address}: {source}")]
    Os {
        address: SocketAddr,
        source: std::io::Error,
    },
}
