//! A node of a few lines. The name of a key says how it is treated.

use armilla::base::units::UnixMillis;
use armilla::causal::dot::{Actor, Dot, Incarnation};
use armilla::causal::object::OperationId;
use armilla::causal::value_hash::value_hash;
use armilla::wire::codec::{Builder, RequestLimits, decode_request, encode_reply};
use armilla::wire::frame::{REQUEST_IDENTIFIER, Split, split};
use armilla::wire::message::{
    DotView, HelloReply, Next, Op, PutMode, Receipt, Reply, Request, SiblingView, Status,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a write looked like when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub op: Op,
    pub key: Vec<u8>,
    pub mode: PutMode,
    pub context: Vec<u8>,
    pub operation: OperationId,
    /// The port it came through.
    pub port: u16,
}

/// What a get, put or delete asked of the replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub read_quorum: u8,
    pub write_quorum: u8,
    pub strict: bool,
    pub timeout_ms: u32,
}

/// A value, and the operation that wrote it.
type Held = Vec<(Vec<u8>, OperationId)>;

#[derive(Default)]
struct State {
    values: BTreeMap<Vec<u8>, Held>,
    seen: Vec<Seen>,
    asked: Vec<Asked>,
    /// Answers that it takes no requests.
    away: bool,
    gets: usize,
    connections: usize,
    /// Of the next ones: closed when they are accepted.
    turned_away: usize,
    /// Of the next ones: told that there are too many.
    refused: usize,
    serving: bool,
    /// Keys whose first request was treated as they say.
    treated: BTreeSet<Vec<u8>>,
    shard_ports: Vec<u16>,
    node: u128,
    cluster: u128,
    value_bytes_max: u32,
    /// Written beside the next put of this key, as if somebody else had.
    intruder: Option<(Vec<u8>, Vec<u8>)>,
}

pub struct Fake {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Fake {
        Fake::start_with_shards(0)
    }

    /// One that has ports for its shards as well.
    pub fn start_with_shards(shards: usize) -> Fake {
        let state = Arc::new(Mutex::new(State {
            serving: true,
            node: 7,
            ..State::default()
        }));
        let address = listen(&state);
        let own = (0..shards).map(|_| port_of(&listen(&state)));
        let ports: Vec<u16> = own.collect();
        // Nobody listens on these.
        let nowhere = || vec![1, 2];
        let mut locked = state.lock().unwrap();
        locked.shard_ports = if shards == 0 { nowhere() } else { ports };
        drop(locked);
        Fake { address, state }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn take_no_requests(&self) {
        self.state.lock().unwrap().away = true;
    }

    pub fn gets(&self) -> usize {
        self.state.lock().unwrap().gets
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    pub fn port(&self) -> u16 {
        port_of(&self.address)
    }

    pub fn shard_ports(&self) -> Vec<u16> {
        self.state.lock().unwrap().shard_ports.clone()
    }

    pub fn set_shard_ports(&self, ports: Vec<u16>) {
        self.state.lock().unwrap().shard_ports = ports;
    }

    pub fn stop_serving(&self) {
        self.state.lock().unwrap().serving = false;
    }

    pub fn turn_away(&self, connections: usize) {
        self.state.lock().unwrap().turned_away = connections;
    }

    pub fn refuse(&self, connections: usize) {
        self.state.lock().unwrap().refused = connections;
    }

    pub fn become_another_node(&self) {
        self.state.lock().unwrap().node += 1;
    }

    pub fn become_of_another_ring(&self) {
        self.state.lock().unwrap().cluster += 1;
    }

    pub fn take_values_up_to(&self, bytes: u32) {
        self.state.lock().unwrap().value_bytes_max = bytes;
    }

    pub fn intrude(&self, key: &[u8], value: &[u8]) {
        self.state.lock().unwrap().intruder = Some((key.to_vec(), value.to_vec()));
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

fn listen(state: &Arc<Mutex<State>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (shared, port) = (state.clone(), port_of(&address));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let state = shared.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &state, port));
        }
    });
    address
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, port: u16) {
    {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        if state.turned_away > 0 {
            state.turned_away -= 1;
            return;
        }
        if state.refused > 0 {
            state.refused -= 1;
            let _ = stream.write_all(&too_many());
            return;
        }
    }
    let limits = RequestLimits {
        value_bytes_max: 16 << 20,
    };
    let mut inbound = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match split(&inbound, REQUEST_IDENTIFIER, limits.frame_bytes_max()) {
            Split::Frame { len } => {
                let request = decode_request(&inbound[..len], limits).unwrap();
                let said = answer(&request, &mut state.lock().unwrap(), port);
                let (bytes, last) = match said {
                    Said::Reply(bytes) => (bytes, false),
                    Said::Last(bytes) => (bytes, true),
                };
                if stream.write_all(&bytes).is_err() || last {
                    return;
                }
                inbound.drain(..len);
            }
            Split::NeedMore { .. } => match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(len) => inbound.extend_from_slice(&chunk[..len]),
            },
            Split::Bad(reason) => panic!("{reason}"),
        }
    }
}

fn too_many() -> Vec<u8> {
    let reply = Reply {
        status: Some(Status::Overloaded),
        message: "too many connections",
        ..Reply::default()
    };
    encode_reply(&mut Builder::new(), &reply).to_vec()
}

enum Said {
    Reply(Vec<u8>),
    /// Then the connection breaks.
    Last(Vec<u8>),
}

fn answer(request: &Request<'_>, state: &mut State, port: u16) -> Said {
    let mut reply = Reply {
        id: request.id,
        status: Some(Status::Ok),
        ..Reply::default()
    };
    let receipt = Receipt {
        votes: 1,
        needed: 1,
        replicas: 1,
        strict: true,
        hints: 0,
    };
    let ports = state.shard_ports.clone();
    let hello = HelloReply {
        protocol: 1,
        node: state.node,
        cluster: state.cluster,
        virtual_nodes: 1024,
        shard_ports: &ports,
        value_bytes_max: state.value_bytes_max,
        ..HelloReply::default()
    };
    let (held, siblings, keys): (Held, Vec<SiblingView<'_>>, Vec<Vec<u8>>);
    let listed: Vec<&[u8]>;
    let explained: String;
    if request.op.writes() {
        state.seen.push(Seen {
            op: request.op,
            key: request.key.to_vec(),
            mode: request.mode,
            context: request.context.to_vec(),
            operation: request.operation,
            port,
        });
    }
    state.gets += usize::from(request.op == Op::Get);
    if matches!(request.op, Op::Get | Op::Put | Op::Delete) {
        state.asked.push(Asked {
            read_quorum: request.read_quorum,
            write_quorum: request.write_quorum,
            strict: request.strict,
            timeout_ms: request.timeout_ms,
        });
        if state.away {
            reply.status = Some(Status::NotReady);
            return Said::Reply(encode_reply(&mut Builder::new(), &reply).to_vec());
        }
    }
    let name = String::from_utf8_lossy(request.key).into_owned();
    let first = !name.ends_with("-once") || state.treated.insert(request.key.to_vec());
    match name.trim_end_matches("-once") {
        // After it was done: the reply alone is lost.
        "lost" if first && request.op.writes() => {
            store(request, state);
            return Said::Last(Vec::new());
        }
        "broken" if first => return Said::Last(Vec::new()),
        "rubbish" if first => return Said::Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        "stranger" if first => {
            reply.id += 1000;
            return Said::Reply(encode_reply(&mut Builder::new(), &reply).to_vec());
        }
        "half" if first => {
            let whole = encode_reply(&mut Builder::new(), &reply).to_vec();
            return Said::Last(whole[..whole.len() / 2].to_vec());
        }
        "silent" => return Said::Reply(Vec::new()),
        "timeout" if first => reply.status = Some(Status::Timeout),
        "refused" => {
            reply.status = Some(Status::ContextRefused);
            reply.message = "not a context of this key";
        }
        "overloaded" => reply.status = Some(Status::Overloaded),
        // The first try may have happened; the later ones are refused.
        "broken-then-refused" if state.treated.insert(request.key.to_vec()) => {
            return Said::Last(Vec::new());
        }
        "broken-then-refused" => reply.status = Some(Status::Exists),
        "overloaded-twice" if state.seen.len() <= 2 => reply.status = Some(Status::Overloaded),
        _ => match request.op {
            Op::Hello => reply.hello = Some(hello),
            Op::Explain => {
                let (address, node) = (format!("127.0.0.1:{port}"), format!("{:032x}", state.node));
                explained = format!(
                    "{{\"position\":\"8f\",\"virtual_node\":5,\"virtual_nodes\":1024,\"ring_epoch\":1,\"node\":\"{node}\",\
                     \"replicas\":[{{\"node\":\"{node}\",\"address\":\"{address}\",\"zone\":\"\",\"shard\":0}},\
                     {{\"node\":\"{:032x}\",\"address\":\"{address}\",\"zone\":\"\",\"shard\":0}}],\
                     \"here\":{{\"state\":\"value\",\"siblings\":[],\"vector\":[]}}}}",
                    state.node + 1
                );
                reply.status_json = &explained;
            }
            Op::Status if state.serving => {
                reply.status_json = "{\"state\":\"serving\",\"keys\":3}";
            }
            Op::Status | Op::Flush | Op::Scrub | Op::Snapshot => {
                reply.status = Some(Status::NotReady);
                reply.status_json = "{\"state\":\"starting\"}";
                reply.message = "it replays its log";
            }
            Op::Put => {
                store(request, state);
                (reply.receipt, reply.context) = (Some(receipt), b"after");
            }
            Op::Delete => {
                state.values.remove(request.key);
                reply.receipt = Some(receipt);
            }
            Op::Get => {
                held = state.values.get(request.key).cloned().unwrap_or_default();
                let views = held.iter().map(|held| view(request.key, held));
                siblings = views.collect();
                let found = if held.is_empty() {
                    Status::NotFound
                } else {
                    Status::Ok
                };
                (reply.status, reply.siblings) = (Some(found), &siblings);
                (reply.receipt, reply.context) = (Some(receipt), b"seen");
            }
            Op::Keys => {
                // In the order of their names, two a page.
                let behind = state
                    .values
                    .keys()
                    .filter(|key| key.as_slice() > request.key);
                keys = behind.take(2).cloned().collect();
                listed = keys.iter().map(Vec::as_slice).collect();
                reply.keys = &listed;
                reply.next = keys.last().map(|key| Next { position: 0, key });
            }
        },
    }
    Said::Reply(encode_reply(&mut Builder::new(), &reply).to_vec())
}

fn store(request: &Request<'_>, state: &mut State) {
    let held = state.values.entry(request.key.to_vec()).or_default();
    if held.iter().any(|held| held.1 == request.operation) {
        return;
    }
    if request.mode == PutMode::Overwrite || !request.context.is_empty() {
        held.clear();
    }
    held.push((request.value.to_vec(), request.operation));
    if let Some((_, value)) = state.intruder.take_if(|(key, _)| key == request.key) {
        held.push((value, OperationId(1)));
    }
}

fn view<'a>(key: &[u8], (value, operation): &'a (Vec<u8>, OperationId)) -> SiblingView<'a> {
    let dot = Dot {
        actor: Actor {
            incarnation: Incarnation(1),
            birth: 2,
        },
        counter: 3,
    };
    let hash = value_hash(b"", key, dot, *operation, value);
    SiblingView {
        value,
        lost: value == b"lost",
        written: UnixMillis(1000),
        expires: UnixMillis(0),
        value_hash: hash ^ u64::from(value == b"damaged"),
        dot: DotView {
            incarnation: 1,
            birth: 2,
            counter: 3,
        },
        operation: *operation,
    }
}
