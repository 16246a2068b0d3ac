//! Requests: what a client sends.

use super::{Builder, bytes, fb, id128, number, verifier_options};
use crate::base::limits::{
    BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, KEY_BYTES_MAX,
    REQUEST_FRAME_BYTES_MAX, VALUE_BYTES_DEFAULT, VALUE_BYTES_MAX,
};
use crate::base::units::UnixMillis;
use crate::causal::object::OperationId;
use crate::wire::frame::{BadFrame, REQUEST_IDENTIFIER, check_whole};
use crate::wire::message::{Op, PutMode, Request, Status};

/// What the operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    pub value_bytes_max: usize,
}

impl RequestLimits {
    /// Bytes of the largest frame that can hold a legal request.
    pub fn frame_bytes_max(self) -> usize {
        assert!(self.value_bytes_max <= VALUE_BYTES_MAX);
        self.value_bytes_max + FRAME_OVERHEAD_BYTES_MAX
    }
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            value_bytes_max: VALUE_BYTES_DEFAULT,
        }
    }
}

/// A frame that is no request, or none that may pass. With an id it is answered; without one nobody can say
/// what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadRequest {
    pub id: Option<u64>,
    pub reason: RequestReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestReason {
    #[error("{0}")]
    Frame(BadFrame),
    #[error("the frame holds no request table: it is damaged, or of another schema")]
    Malformed,
    #[error("unknown op {0}")]
    Op(u8),
    #[error("unknown put mode {0}")]
    Mode(u8),
    #[error("a bucket name of {0} bytes: it may have {max}", max = BUCKET_BYTES_MAX)]
    Bucket(usize),
    #[error("a key of {0} bytes: it has 1 to {max}", max = KEY_BYTES_MAX)]
    Key(usize),
    #[error("a value of {len} bytes: this node takes {max}")]
    Value { len: usize, max: usize },
    #[error("a context of {0} bytes: no node gives one longer than {max}", max = CONTEXT_BYTES_MAX)]
    Context(usize),
    #[error("a context goes with the mode by-context only")]
    ContextWithMode,
    #[error("a delete takes neither a value nor the mode if-absent")]
    Delete,
}

impl RequestReason {
    /// How the refusal is answered.
    pub fn status(self) -> Status {
        match self {
            RequestReason::Op(_) | RequestReason::Mode(_) => Status::Unsupported,
            RequestReason::Key(_) => Status::KeyRefused,
            RequestReason::Value { .. } => Status::ValueTooLarge,
            RequestReason::Context(_) => Status::ContextRefused,
            RequestReason::Frame(_)
            | RequestReason::Malformed
            | RequestReason::Bucket(_)
            | RequestReason::ContextWithMode
            | RequestReason::Delete => Status::BadRequest,
        }
    }
}

/// Encodes `request` as one whole frame, which lives until the builder is used again. The request keeps the hard
/// limits; what the node at the other end takes is for that node to say.
pub fn encode_request<'b>(builder: &'b mut Builder, request: &Request<'_>) -> &'b [u8] {
    assert!(request.value.len() <= VALUE_BYTES_MAX && request.key.len() <= KEY_BYTES_MAX);
    assert!(request.bucket.len() <= BUCKET_BYTES_MAX && request.context.len() <= CONTEXT_BYTES_MAX);
    let fbb = builder.reset();
    let mut vector = |bytes: &[u8]| (!bytes.is_empty()).then(|| fbb.create_vector(bytes));
    let value = vector(request.value);
    let context = vector(request.context);
    let key = vector(request.key);
    let bucket = vector(request.bucket);
    let operation = (request.operation.0 != 0).then(|| id128(request.operation.0));
    let arguments = fb::RequestArgs {
        id: request.id,
        op: fb::Op(request.op as u8),
        bucket,
        key,
        value,
        context,
        mode: fb::PutMode(request.mode as u8),
        operation: operation.as_ref(),
        expires_ms: request.expires.0,
        read_quorum: request.read_quorum,
        write_quorum: request.write_quorum,
        strict: request.strict,
        timeout_ms: request.timeout_ms,
        protocol: request.protocol,
        features: request.features,
        position: request.position,
    };
    let root = fb::Request::create(fbb, &arguments);
    fbb.finish_size_prefixed(root, Some(REQUEST_IDENTIFIER));
    builder.finished(REQUEST_FRAME_BYTES_MAX)
}

/// Decodes one whole frame, prefix included; the request borrows from it.
pub fn decode_request(frame: &[u8], limits: RequestLimits) -> Result<Request<'_>, BadRequest> {
    let unknown = |reason| BadRequest { id: None, reason };
    check_whole(frame, REQUEST_IDENTIFIER, limits.frame_bytes_max())
        .map_err(|reason| unknown(RequestReason::Frame(reason)))?;
    let options = verifier_options(frame.len(), 1);
    let table = flatbuffers::size_prefixed_root_with_opts::<fb::Request>(&options, frame)
        .map_err(|_| unknown(RequestReason::Malformed))?;
    let id = table.id();
    fields(table, limits).map_err(|reason| BadRequest {
        id: Some(id),
        reason,
    })
}

fn fields<'a>(table: fb::Request<'a>, limits: RequestLimits) -> Result<Request<'a>, RequestReason> {
    let request = Request {
        id: table.id(),
        op: Op::from_wire(table.op().0).ok_or(RequestReason::Op(table.op().0))?,
        bucket: bytes(table.bucket()),
        key: bytes(table.key()),
        value: bytes(table.value()),
        context: bytes(table.context()),
        mode: PutMode::from_wire(table.mode().0).ok_or(RequestReason::Mode(table.mode().0))?,
        operation: OperationId(number(table.operation())),
        expires: UnixMillis(table.expires_ms()),
        read_quorum: table.read_quorum(),
        write_quorum: table.write_quorum(),
        strict: table.strict(),
        timeout_ms: table.timeout_ms(),
        protocol: table.protocol(),
        features: table.features(),
        position: table.position(),
    };
    check(&request, limits)?;
    Ok(request)
}

fn check(request: &Request<'_>, limits: RequestLimits) -> Result<(), RequestReason> {
    if request.bucket.len() > BUCKET_BYTES_MAX {
        return Err(RequestReason::Bucket(request.bucket.len()));
    }
    let names_a_key = request.op.is_of_a_key() || request.op == Op::Explain;
    if request.key.len() > KEY_BYTES_MAX || names_a_key && request.key.is_empty() {
        return Err(RequestReason::Key(request.key.len()));
    }
    if request.value.len() > limits.value_bytes_max {
        let max = limits.value_bytes_max;
        return Err(RequestReason::Value {
            len: request.value.len(),
            max,
        });
    }
    if request.context.len() > CONTEXT_BYTES_MAX {
        return Err(RequestReason::Context(request.context.len()));
    }
    if request.mode != PutMode::ByContext && !request.context.is_empty() {
        return Err(RequestReason::ContextWithMode);
    }
    let deletes_only = request.value.is_empty() && request.mode != PutMode::IfAbsent;
    if request.op == Op::Delete && !deletes_only {
        return Err(RequestReason::Delete);
    }
    Ok(())
}
