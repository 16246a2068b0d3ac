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
    /// Of nodes of one store; asked in a circle.
    servers: Vec<String>,
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
    /// Which of the servers it is.
    server: usize,
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
    /// Which server it was made to; also when it is there no more.
    server: Option<usize>,
    /// A thread makes one: others wait for what comes of it.
    dialing: bool,
    not_before: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Connects to the port of all shards of the first server that is there.
    pub(super) fn connect(address: &str, options: Options) -> Result<Pool, ClientError> {
        let places = || (0..options.connections_max.max(1)).map(|_| Place::default());
        let servers = address.split(',').map(str::trim);
        let servers: Vec<String> = servers
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect();
        let tried = servers.len().max(1) as u32;
        let pool = Pool {
            servers,
            options,
            known: Mutex::new(None),
            shared: places().collect(),
            shards: places().collect(),
        };
        pool.shared(0, Instant::now() + options.connect_timeout * tried)?;
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
        self.shared[nth].get(deadline, |left| {
            // Where a connection broke, the others of that server broke too: all go on to the same next one.
            let first = match left {
                Some(server) => server + 1,
                None => lock(&self.known).as_ref().map_or(0, |known| known.server),
            };
            let (connection, known) = self.dial_any(first, deadline)?;
            let server = known.server;
            self.on_hello(known);
            Ok((connection, server))
        })
    }

    /// The node that answered last cannot do what was asked now: the next requests go to the next server, if any.
    pub(super) fn move_on(&self) {
        if self.servers.len() < 2 {
            return;
        }
        for place in &self.shared {
            lock(&place.state).connection = None;
        }
        // Until the next server has said which shards it has.
        for place in &self.shards {
            lock(&place.state).not_before = Some(Instant::now() + SHARD_PORT_PAUSE);
        }
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
        let made = place.get(deadline, |_| {
            let address = SocketAddr::new(known.peer.ip(), known.route.shard_ports[shard]);
            let (connection, hello) = self.dial(known.server, address, deadline)?;
            let (route, node) = (&known.route, &hello.node);
            if (node.cluster, node.node) != (route.cluster, route.node) {
                let another = io::Error::other("another node listens there");
                return Err(self.unreachable(known.server, another));
            }
            Ok((connection, known.server))
        });
        if made.is_err() {
            lock(&place.state).not_before = Some(Instant::now() + SHARD_PORT_PAUSE);
        }
        made.ok()
    }

    /// A node that says something else than before has other shards: its old connections are of no use.
    fn on_hello(&self, now: Known) {
        let before = lock(&self.known).replace(now.clone());
        let moved = |before: Known| before.route != now.route || before.peer != now.peer;
        if before.is_some_and(moved) {
            for place in &self.shards {
                let mut state = lock(&place.state);
                state.connection = None;
                state.not_before = None;
            }
        }
    }

    /// One that has said hello: of the servers in a circle, `first` first. Each has an even part of the time.
    fn dial_any(
        &self,
        first: usize,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, Known), ClientError> {
        let count = self.servers.len();
        let mut failures = Vec::new();
        for nth in 0..count {
            let left = deadline.saturating_duration_since(Instant::now());
            let until = deadline - left + left / (count - nth) as u32;
            match self.dial_server((first + nth) % count, until) {
                Ok(made) => return Ok(made),
                Err(error) => failures.push(error),
            }
        }
        Err(self.none_of(failures))
    }

    /// One that has said hello, at any of the addresses of the name.
    fn dial_server(
        &self,
        server: usize,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, Known), ClientError> {
        let addresses = self.servers[server].to_socket_addrs();
        let addresses = addresses.map_err(|error| self.unreachable(server, error))?;
        let nobody = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut failure = self.unreachable(server, nobody);
        let Options {
            connections_max,
            shard_ports,
            ..
        } = self.options;
        for peer in addresses {
            match self.dial(server, peer, deadline) {
                Ok((connection, hello)) => {
                    let route = Arc::new(Route::of(&hello, connections_max, shard_ports));
                    if !self.is_of_this_ring(&route) {
                        let another = io::Error::other("a node of another ring listens there");
                        failure = self.unreachable(server, another);
                        continue;
                    }
                    let known = Known {
                        route,
                        peer,
                        server,
                    };
                    return Ok((connection, known));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Of several servers, all are to be of the ring of the first that was reached: a client that went on to another
    /// ring would find nothing there, and leave half of its writes.
    fn is_of_this_ring(&self, route: &Route) -> bool {
        let known = lock(&self.known);
        let mut first = known.iter().filter(|_| self.servers.len() > 1);
        first.all(|known| known.route.cluster == route.cluster)
    }

    /// What all servers together failed with. One that refused is there, and says more than those that are not.
    fn none_of(&self, mut failures: Vec<ClientError>) -> ClientError {
        let refused = |failure: &ClientError| matches!(failure, ClientError::Refused { .. });
        if let Some(refused) = failures.iter().position(refused) {
            return failures.swap_remove(refused);
        }
        if failures.len() == 1 {
            return failures.remove(0);
        }
        let why = failures.iter().filter_map(|failure| match failure {
            ClientError::Unreachable { address, source } => Some(format!("{address}: {source}")),
            _ => None,
        });
        let source = match failures.is_empty() {
            true => io::Error::new(io::ErrorKind::InvalidInput, "no address was given"),
            false => io::Error::other(why.collect::<Vec<_>>().join("; ")),
        };
        ClientError::Unreachable {
            address: self.servers.join(", "),
            source: Arc::new(source),
        }
    }

    fn dial(
        &self,
        server: usize,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, Hello), ClientError> {
        let unreachable = |error| self.unreachable(server, error);
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

    fn unreachable(&self, server: usize, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            address: self.servers[server].clone(),
            source: Arc::new(source),
        }
    }
}

impl Place {
    /// The connection that stands here, or what `dial` makes. It is told which server the last one here was made to,
    /// and tells which one this is made to.
    fn get(
        &self,
        deadline: Instant,
        dial: impl FnOnce(Option<usize>) -> Result<(Arc<Connection>, usize), ClientError>,
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
        let left = state.server;
        drop(state);
        let made = dial(left);
        let mut state = lock(&self.state);
        state.dialing = false;
        if let Ok((connection, server)) = &made {
            state.connection = Some(connection.clone());
            state.server = Some(*server);
        }
        drop(state);
        self.changed.notify_all();
        made.map(|(connection, _)| connection)
    }
}
