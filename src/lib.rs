#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Armilla runs on Linux only: its node is built on io_uring and its client has not been tried elsewhere. Build it on Linux 6.1 or newer."
);

pub mod base;
pub mod causal;
pub mod client;
pub mod ring;
pub mod wire;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod coordinator;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(all(feature = "server", feature = "sim"))]
pub mod fuzz;
#[cfg(feature = "server")]
pub mod membership;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod replica;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(all(feature = "server", feature = "sim"))]
pub mod sim;
