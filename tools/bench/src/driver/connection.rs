//! One connection: its socket, its session, what is ready to be sent and what flies.

use super::flights::Flights;
use crate::plan::Task;
use crate::session::Session;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Instant;

/// An operation whose next request may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub task: Task,
    pub intended: Instant,
    pub began: Instant,
}

pub enum Slot<S> {
    Open(Box<Connection<S>>),
    Closed { retry_at: Instant },
}

pub struct Connection<S> {
    pub stream: TcpStream,
    pub session: S,
    pub connected: bool,
    pub out: Vec<u8>,
    pub written: usize,
    pub flights: Flights,
    pub ready: Vec<Ready>,
    /// Operations under way: those that fly, and those that are ready.
    pub open: usize,
    /// Whether it stands in the driver's list of those with room.
    pub has_room: bool,
    /// Whether it stands in the driver's list of those with something to send.
    pub dirty: bool,
}

impl<S: Session> Connection<S> {
    /// `None`: the server cannot be reached now.
    pub fn open(
        server: SocketAddr,
        bucket: &[u8],
        registry: &Registry,
        index: usize,
    ) -> io::Result<Option<Connection<S>>> {
        let Ok(mut stream) = TcpStream::connect(server) else {
            return Ok(None);
        };
        // A refusal here would only cost latency.
        let _ = stream.set_nodelay(true);
        registry.register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let mut out = Vec::new();
        Ok(Some(Connection {
            stream,
            session: S::new(bucket, &mut out),
            connected: false,
            out,
            written: 0,
            flights: Flights::new(),
            ready: Vec::new(),
            open: 0,
            has_room: false,
            dirty: false,
        }))
    }

    /// The socket of a connection under way is ready: whether it is connected now.
    pub fn on_ready(&mut self) -> Result<bool, &'static str> {
        let failed = !matches!(self.stream.take_error(), Ok(None));
        match self.stream.peer_addr() {
            Ok(_) if !failed => self.connected = true,
            Err(error) if !failed && error.kind() == ErrorKind::NotConnected => {}
            Ok(_) | Err(_) => return Err("not connected"),
        }
        Ok(self.connected)
    }

    pub fn mark_dirty(&mut self, index: usize, dirty: &mut Vec<usize>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push(index);
        }
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> Result<(), &'static str> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err("connection lost"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}
