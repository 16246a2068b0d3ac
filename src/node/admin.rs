//! The admin port: `/livez` (does it need a restart?), `/readyz` (does it serve?), `/status` (JSON), over HTTP/1.1.
//!
//! Served by the shard itself: an answer here says that the loop that serves requests turns.

use super::shard::Shard;
use super::status::{self, Phase};
use crate::base::limits;

/// What goes back, and how much of the bytes at hand it answers (0: the head is not whole yet).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub used: usize,
    pub bytes: Vec<u8>,
    pub close: bool,
}

/// Answers the request at the front of `bytes`. Every answered connection is closed: scrapers are few, and a body
/// that a client should not have sent is never taken for the next request.
pub fn answer(bytes: &[u8], shard: &Shard) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let (used, code, kind, body) = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => {
            let path = request.path.unwrap_or("/");
            let (code, kind, body) = route(request.method.unwrap_or(""), path, shard);
            (used, code, kind, body)
        }
        Ok(httparse::Status::Partial) if bytes.len() < limits::ADMIN_HEAD_BYTES_MAX => {
            return Answer::default();
        }
        Ok(httparse::Status::Partial) => (bytes.len(), 431, TEXT, "the head is too long\n".into()),
        Err(error) => (bytes.len(), 400, TEXT, format!("not HTTP/1.1: {error}\n")),
    };
    let head = format!(
        "HTTP/1.1 {code} {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reason(code),
        body.len()
    );
    let body = if request.method == Some("HEAD") {
        String::new()
    } else {
        body
    };
    Answer {
        used,
        bytes: (head + &body).into_bytes(),
        close: true,
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn route(method: &str, path: &str, shard: &Shard) -> (u16, &'static str, String) {
    if method != "GET" && method != "HEAD" {
        return (405, TEXT, "only GET and HEAD\n".into());
    }
    let check = |name: &str, ok: bool| {
        let (code, sign) = if ok { (200, '+') } else { (503, '-') };
        (
            code,
            TEXT,
            format!("[{sign}]{name} {}\n", shard.phase.name()),
        )
    };
    match path.split('?').next().unwrap_or("/") {
        "/livez" | "/healthz" => check("live", shard.phase != Phase::Poisoned),
        "/readyz" => check("ready", shard.phase == Phase::Serving),
        "/status" => (200, JSON, format!("{}\n", status::report(shard))),
        "/" => (200, TEXT, "/livez\n/readyz\n/status\n".into()),
        _ => (
            404,
            TEXT,
            "no such page; try /livez, /readyz or /status\n".into(),
        ),
    }
}

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
