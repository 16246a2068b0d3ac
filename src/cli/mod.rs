//! The command line: one file a verb.

pub mod dataset;
pub mod demo;
pub mod start;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

pub const COMMIT: &str = "unknown";

#[derive(Parser)]
#[command(name = "armilla", version)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Start(start::Start),
    Demo(demo::Demo),
}

pub fn main() -> ExitCode {
    match Line::parse().verb {
        Verb::Start(start) => start::run(&start),
        Verb::Demo(demo) => demo::run(&demo),
    }
}
