//! The client. `Client` is the blocking front; `core` is the protocol without a socket, for whoever brings an
//! own one.
//!
//! ```no_run
//! use armilla::client::{Client, Put};
//!
//! let mut client = Client::connect("127.0.0.1:7700")?;
//! client.put(b"city", b"Riga", &Put::default())?;
//! let found = client.get(b"city")?;
//! assert_eq!(found.siblings[0].value, b"Riga");
//!
//! // What follows from what was read supersedes exactly that: an unseen write stays beside it.
//! client.put(b"city", b"Tartu", &Put::with_context(&found.context))?;
//! # Ok::<(), armilla::client::ClientError>(())
//! ```

pub mod blocking;
pub mod core;
mod error;
mod operation;

pub use blocking::{Client, Found, Hello, Options, Put, Sibling, StatusReport, Written};
pub use error::ClientError;
