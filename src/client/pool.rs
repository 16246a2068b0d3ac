//! The connections of a client: one a lane, made when it is first needed, made anew when it broke.

use super::answer::Hello;
use super::connection::{Connection, Lost};
use super::error::{Cause, ClientError};
use super::options::Options;
use super::route::{Lane, Route};
use crate::base::limits::CONNECTION_REQUESTS_MAX;
use crate::ring::position::Position;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::message::{Advice, Op, Request};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a shard's own port could not be reached, it is left alone for so long.
const SHARD_PORT_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Pool {
    address: String,
    options: Options,
    /// Of the node that answered last on the port of all shards, and where that was.
    known: Mutex<Option<Known>>,
    shared: Vec<Place>,
    shards: Vec<Place>,
}

#[derive(Clone)]
struct Known {
    route: Arc<Route>,
    peer: SocketAddr,
}

/// Where the connection of a lane stands.
#[derive(Default)]
struct Place {
    state: Mutex<PlaceState>,
    changed: Condvar,
}

#[derive(Default)]
struct PlaceState {
    connection: Option<Arc<Connection>>,
    /// A thread makes one: others wait for what comes of it.
    dialing: bool,
    not_before: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Connects to the port of all shards.
    pub(super) fn connect(address: &str, options: Options) -> Result<Pool, ClientError> {
        let places = || (0..options.connections_max.max(1)).map(|_| Place::default());
        let pool = Pool {
            address: address.to_owned(),
            options,
            known: Mutex::new(None),
            shared: places().collect(),
            shards: places().collect(),
        };
        pool.shared(0, Instant::now() + options.connect_timeout)?;
        Ok(pool)
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of the largest value that the node takes.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.known().route.value_bytes_max
    }

    fn known(&self) -> Known {
        let known = lock(&self.known).clone();
        known.expect("a pool has been connected once")
    }

    /// A connection for requests of keys at `position`; for those without a key any will do.
    pub(super) fn connection(
        &self,
        position: Option<Position>,
        deadline: Instant,
    ) -> Result<Arc<Connection>, ClientError> {
        let known = self.known();
        match position.map(|position| known.route.lane(position)) {
            None => self.shared(0, deadline),
            Some(Lane::Shared(nth)) => self.shared(nth, deadline),
            Some(Lane::Shard(shard)) => match self.shard(shard, &known, deadline) {
                Some(connection) => Ok(connection),
                None => self.shared(0, deadline),
            },
        }
    }

    fn shared(&self, nth: usize, deadline: Instant) -> Result<Arc<Connection>, ClientError> {
        self.shared[nth].get(deadline, || {
            let (connection, peer, hello) = self.dial_any(deadline)?;
            self.on_hello(peer, &hello);
            Ok(connection)
        })
    }

    /// `None`: not now. The port may be out of reach, or that of another node by now.
    fn shard(&self, shard: usize, known: &Known, deadline: Instant) -> Option<Arc<Connection>> {
        let place = &self.shards[shard];
        if lock(&place.state)
            .not_before
            .is_some_and(|at| Instant::now() < at)
        {
            return None;
        }
        let made = place.get(deadline, || {
            let address = SocketAddr::new(known.peer.ip(), known.route.shard_ports[shard]);
            let (connection, hello) = self.dial(address, deadline)?;
            let (route, node) = (&known.route, &hello.node);
            if (node.cluster, node.node) != (route.cluster, route.node) {
                let another = io::Error::other("another node listens there");
                return Err(self.unreachable(another));
            }
            Ok(connection)
        });
        if made.is_err() {
            lock(&place.state).not_before = Some(Instant::now() + SHARD_PORT_PAUSE);
        }
        made.ok()
    }

    /// A node that says something else than before has other shards: its old connections are of no use.
    fn on_hello(&self, peer: SocketAddr, hello: &Hello) {
        let Options {
            connections_max,
            shard_ports,
            ..
        } = self.options;
        let route = Arc::new(Route::of(hello, connections_max, shard_ports));
        let mut known = lock(&self.known);
        let before = known.replace(Known {
            route: route.clone(),
            peer,
        });
        drop(known);
        let moved = before.is_some_and(|before| before.route != route || before.peer != peer);
        if moved {
            for place in &self.shards {
                let mut state = lock(&place.state);
                state.connection = None;
                state.not_before = None;
            }
        }
    }

    /// One that has said hello, at any of the addresses of the name.
    fn dial_any(
        &self,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, SocketAddr, Hello), ClientError> {
        let addresses = self.address.to_socket_addrs();
        let addresses = addresses.map_err(|error| self.unreachable(error))?;
        let nobody = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut failure = self.unreachable(nobody);
        for address in addresses {
            match self.dial(address, deadline) {
                Ok((connection, hello)) => return Ok((connection, address, hello)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn dial(
        &self,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, Hello), ClientError> {
        let unreachable = |error| self.unreachable(error);
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let now = Instant::now();
        let deadline = deadline.min(now + self.options.connect_timeout);
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(unreachable(late()));
        }
        let stream = TcpStream::connect_timeout(&address, left).map_err(unreachable)?;
        let in_flight_max = self.options.in_flight_max.clamp(1, CONNECTION_REQUESTS_MAX);
        let connection = Arc::new(Connection::new(stream, in_flight_max).map_err(unreachable)?);
        let request = Request {
            op: Op::Hello,
            protocol: PROTOCOL_VERSION,
            ..Request::default()
        };
        let asked = connection.submit(&request, deadline);
        let asked = asked.map_err(|cause| unreachable(io::Error::other(cause)))?;
        let (status, message, hello) = match asked.wait(deadline) {
            Ok(answer) => (answer.status, answer.message, answer.hello),
            // It takes no more connections.
            Err(Lost {
                cause: Cause::Said { status, message },
                ..
            }) => (status, message, None),
            Err(Lost {
                cause: Cause::Timeout,
                ..
            }) => return Err(unreachable(late())),
            Err(Lost { cause, .. }) => return Err(unreachable(io::Error::other(cause))),
        };
        match (status.advice(), hello) {
            (Advice::Done, Some(hello)) => Ok((connection, hello)),
            (Advice::Done | Advice::Unknown, _) => {
                let what = "what listens there answers a hello without one";
                Err(unreachable(io::Error::other(what)))
            }
            (Advice::Retry | Advice::DoNotRetry, _) => {
                Err(ClientError::Refused { status, message })
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            address: self.address.clone(),
            source: Arc::new(source),
        }
    }
}

impl Place {
    /// The connection that stands here, or what `dial` makes.
    fn get(
        &self,
        deadline: Instant,
        dial: impl FnOnce() -> Result<Arc<Connection>, ClientError>,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(connection) = state.connection.take_if(|c| c.is_broken()) {
                drop(connection);
            }
            if let Some(connection) = &state.connection {
                return Ok(connection.clone());
            }
            if !state.dialing {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::NotSent(Cause::Timeout));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.dialing = true;
        drop(state);
        let made = dial();
        let mut state = lock(&self.state);
        state.dialing = false;
        if let Ok(connection) = &made {
            state.connection = Some(connection.clone());
        }
        drop(state);
        self.changed.notify_all();
        made
    }
}
