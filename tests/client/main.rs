//! The client and the verbs of the command line, against a node that
//! speaks the real codec and does what the key's name says.

mod cli;
mod client;
mod fake;
mod servers;
