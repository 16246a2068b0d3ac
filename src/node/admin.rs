//! The admin port: `/livez` (does it need a restart?), `/readyz` (does it serve?), `/status` (JSON),
//! `/metrics` (Prometheus), over HTTP/1.1.
//!
//! Served by shard 0, which asks the others: an answer here says that the loops that serve requests turn.

use super::metrics;
use super::shard::Shard;
use super::status::{self, NodeState};
use crate::base::limits;
use serde_json::Value;

/// What the bytes at hand ask for. Every answered connection is closed: scrapers are few, and a body that a client
/// should not have sent is never taken for the next request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not whole yet.
    NeedMore,
    /// A page that tells of all shards.
    Page(Page),
    /// The whole of an answer that tells of no shard.
    Text(Vec<u8>),
}

/// What a page tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    what: What,
    head_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Live,
    Ready,
    Status,
    Metrics,
}

/// Reads the request at the front of `bytes`.
pub fn answer(bytes: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let text = |code, body: &str| Answer::Text(whole(code, TEXT, body, false));
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < limits::ADMIN_HEAD_BYTES_MAX => {
            return Answer::NeedMore;
        }
        Ok(httparse::Status::Partial) => return text(431, "the head is too long\n"),
        Err(error) => return text(400, &format!("not HTTP/1.1: {error}\n")),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return text(405, "only GET and HEAD\n"),
    };
    let text = |code, body: &str| Answer::Text(whole(code, TEXT, body, head_only));
    let path = request.path.unwrap_or("/");
    let what = match path.split('?').next().unwrap_or("/") {
        "/livez" | "/healthz" => What::Live,
        "/readyz" => What::Ready,
        "/status" => What::Status,
        "/metrics" => What::Metrics,
        "/" => return text(200, "/livez\n/readyz\n/status\n/metrics\n"),
        _ => {
            return text(
                404,
                "no such page; try /livez, /readyz, /status or /metrics\n",
            );
        }
    };
    Answer::Page(Page { what, head_only })
}

/// The whole answer, by the rows of all shards.
pub fn page(page: Page, shard: &Shard, rows: Vec<Value>) -> Vec<u8> {
    let state = status::state(&rows);
    let check = |name: &str, ok: bool| {
        let (code, sign) = if ok { (200, '+') } else { (503, '-') };
        let body = format!("[{sign}]{name} {}\n", state.name());
        whole(code, TEXT, &body, page.head_only)
    };
    match page.what {
        What::Live => {
            let dead = [NodeState::Poisoned, NodeState::Silent].contains(&state);
            check("live", !dead)
        }
        What::Ready => check("ready", state.is_serving()),
        What::Metrics => {
            let body = metrics::page(&status::report(shard, rows));
            whole(200, METRICS, &body, page.head_only)
        }
        What::Status => {
            let body = format!("{}\n", status::report(shard, rows));
            whole(200, JSON, &body, page.head_only)
        }
    }
}

fn whole(code: u16, kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {code} {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reason(code),
        body.len()
    );
    (head + if head_only { "" } else { body }).into_bytes()
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}
