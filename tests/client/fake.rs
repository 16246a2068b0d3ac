//! A node of a few lines. The name of a key says how it is treated.

use armilla::causal::object::OperationId;
use armilla::wire::codec::{Builder, RequestLimits, decode_request, encode_reply};
use armilla::wire::frame::{REQUEST_IDENTIFIER, Split, split};
use armilla::wire::message::{
    HelloReply, Op, PutMode, Receipt, Reply, Request, SiblingView, Status,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a write looked like when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub op: Op,
    pub mode: PutMode,
    pub context: Vec<u8>,
    pub operation: OperationId,
}

#[derive(Default)]
struct State {
    values: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    seen: Vec<Seen>,
    serving: bool,
}

pub struct Fake {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State {
            serving: true,
            ..State::default()
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        Fake { address, state }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn stop_serving(&self) {
        self.state.lock().unwrap().serving = false;
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let limits = RequestLimits::default();
    let mut inbound = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match split(&inbound, REQUEST_IDENTIFIER, limits.frame_bytes_max()) {
            Split::Frame { len } => {
                let request = decode_request(&inbound[..len], limits).unwrap();
                let Some(bytes) = answer(&request, &mut state.lock().unwrap()) else {
                    return;
                };
                if stream.write_all(&bytes).is_err() {
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

/// `None` breaks the connection without an answer.
fn answer(request: &Request<'_>, state: &mut State) -> Option<Vec<u8>> {
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
    let hello = HelloReply {
        protocol: 1,
        node: 7,
        shard_ports: &[1, 2],
        ..HelloReply::default()
    };
    let values;
    let siblings: Vec<SiblingView<'_>>;
    if request.op.writes() {
        state.seen.push(Seen {
            op: request.op,
            mode: request.mode,
            context: request.context.to_vec(),
            operation: request.operation,
        });
    }
    match (request.op, request.key) {
        (_, b"broken") => return None,
        (_, b"rubbish") => return Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (_, b"silent") => return Some(Vec::new()),
        (_, b"timeout") => reply.status = Some(Status::Timeout),
        (_, b"refused") => {
            reply.status = Some(Status::ContextRefused);
            reply.message = "not a context of this key";
        }
        (Op::Put, b"overloaded-twice") if state.seen.len() <= 2 => {
            reply.status = Some(Status::Overloaded);
        }
        (Op::Hello, _) => reply.hello = Some(hello),
        (Op::Status, _) if state.serving => {
            reply.status_json = "{\"state\":\"serving\",\"keys\":3}";
        }
        (Op::Status, _) => {
            reply.status = Some(Status::NotReady);
            reply.status_json = "{\"state\":\"starting\"}";
            reply.message = "it replays its log";
        }
        (Op::Put, key) => {
            let held = state.values.entry(key.to_vec()).or_default();
            if request.mode == PutMode::Overwrite || !request.context.is_empty() {
                held.clear();
            }
            held.push(request.value.to_vec());
            (reply.receipt, reply.context) = (Some(receipt), b"after");
        }
        (Op::Delete, key) => {
            state.values.remove(key);
            reply.receipt = Some(receipt);
        }
        (Op::Get, key) => {
            values = state.values.get(key).cloned().unwrap_or_default();
            siblings = values.iter().map(|value| view(value)).collect();
            let found = if values.is_empty() {
                Status::NotFound
            } else {
                Status::Ok
            };
            (reply.status, reply.siblings) = (Some(found), &siblings);
            (reply.receipt, reply.context) = (Some(receipt), b"seen");
        }
    }
    Some(encode_reply(&mut Builder::new(), &reply).to_vec())
}

fn view(value: &[u8]) -> SiblingView<'_> {
    SiblingView {
        value,
        lost: value == b"lost",
        written: armilla::base::units::UnixMillis(1000),
        expires: armilla::base::units::UnixMillis(0),
        value_hash: 0,
        dot: Default::default(),
        operation: OperationId(0),
    }
}
