//! The command line: one file a verb.

// pub mod dataset;
// pub mod demo;
pub mod start;

pub const COMMIT: &str = "unknown";
