//! Fuzz targets: whatever reads bytes that may be anything, as plain functions that panic on a finding.
//!
//! `cargo test` runs each over its seeds, its committed corpus and some thousand mutations of them; `tools/fuzz` runs
//! them under libFuzzer. A target asks more than "no panic": what is accepted must be written again as the same bytes,
//! or mean the same, and what carries a checksum is given the right one, so that the parser behind it is met.

mod context;
pub mod corpus;
pub mod mutate;
mod node_toml;
mod peer;
mod ring;
#[cfg(test)]
mod tests;
mod wire;

use crate::engine::fuzz as engine;

/// One reader of bytes.
pub struct Target {
    pub name: &'static str,
    /// What it reads, and what must hold.
    pub what: &'static str,
    /// Longer inputs find nothing that these do not.
    pub bytes_max: usize,
    /// Whole, well-formed inputs, made by our own encoders: what mutations begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics on a finding.
    pub run: fn(&[u8]),
}

/// A format that comes to be read gets its line here, and its functions beside its reader.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        what: "a stream of frames: a verdict on a prefix holds for all that begins with it",
        bytes_max: 1024,
        seeds: wire::frame_seeds,
        run: wire::frame,
    },
    Target {
        name: "request",
        what: "a request frame: what is accepted lies in the frame and is encoded with the same meaning",
        bytes_max: 2048,
        seeds: wire::request_seeds,
        run: wire::request,
    },
    Target {
        name: "reply",
        what: "a reply frame: as for requests",
        bytes_max: 2048,
        seeds: wire::reply_seeds,
        run: wire::reply,
    },
    Target {
        name: "peer",
        what: "a frame of another node: what is accepted is encoded with the same meaning",
        bytes_max: 2048,
        seeds: peer::frame_seeds,
        run: peer::frame,
    },
    Target {
        name: "object",
        what: "an object of another node: encoded again as the same bytes",
        bytes_max: 1024,
        seeds: peer::object_seeds,
        run: peer::object,
    },
    Target {
        name: "context",
        what: "a context token: only what a live key signed, for this key alone, and only its one form",
        bytes_max: 512,
        seeds: context::seeds,
        run: context::run,
    },
    Target {
        name: "group",
        what: "a commit group and its records: sealed again as the same bytes, nowhere else a group",
        bytes_max: 4096,
        seeds: engine::group::seeds,
        run: engine::group::run,
    },
    Target {
        name: "record",
        what: "a record: encoded again as the same bytes, nowhere else a record",
        bytes_max: 2048,
        seeds: engine::record::seeds,
        run: engine::record::run,
    },
    Target {
        name: "manifest",
        what: "a manifest file: its blocks are encoded as the same bytes, its state as one block that says the same",
        bytes_max: 1024,
        seeds: engine::manifest::seeds,
        run: engine::manifest::run,
    },
    Target {
        name: "table",
        what: "a table whose checksums are right: search and walk agree, its entries are encoded as the same bytes",
        bytes_max: 2048,
        seeds: engine::table::seeds,
        run: engine::table::run,
    },
    Target {
        name: "replay",
        what: "a data directory whose checksums are right: opened twice with the same keys, or refused",
        bytes_max: 2048,
        seeds: engine::replay::seeds,
        run: engine::replay::run,
    },
    Target {
        name: "node_toml",
        what: "node.toml: what is accepted is written with the same meaning",
        bytes_max: 512,
        seeds: node_toml::seeds,
        run: node_toml::run,
    },
    Target {
        name: "ring",
        what: "a ring: encoded again as the same bytes, its lists are of different nodes",
        bytes_max: 1024,
        seeds: ring::seeds,
        run: ring::run,
    },
];

pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
