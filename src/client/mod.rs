//! The client library. [`Client`] is the blocking front: any number of threads share it, and each may have many
//! requests under way. [`core`] is the protocol without a socket, for whoever brings an own one.
//!
//! It needs nothing of the node: `armilla = { version = "0.1", default-features = false }` leaves out all that wants a
//! kernel with io_uring.
//!
//! ```no_run
//! use armilla::client::{Client, Put};
//!
//! let client = Client::connect("127.0.0.1:7700")?;
//! client.put(b"city", b"Riga", &Put::default())?;
//! let found = client.get(b"city")?;
//! assert_eq!(found.siblings[0].value, b"Riga");
//!
//! // What follows from what was read supersedes exactly that: an unseen write stays beside it.
//! client.put(b"city", b"Tartu", &Put::with_context(&found.context))?;
//! # Ok::<(), armilla::client::ClientError>(())
//! ```
//!
//! Many at once, from one thread. Each is waited for, since only its own answer tells what became of it:
//!
//! ```no_run
//! # use armilla::client::{Client, ClientError, Put};
//! # let client = Client::connect("127.0.0.1:7700")?;
//! let rows = [("a", "1"), ("b", "2"), ("c", "3")];
//! let pending: Vec<_> = rows
//!     .iter()
//!     .map(|(key, value)| client.begin_put(key.as_bytes(), value.as_bytes(), &Put::default()))
//!     .collect();
//! for write in pending {
//!     write.wait()?;
//! }
//! # Ok::<(), ClientError>(())
//! ```
//!
//! A change that loses no write of others, whatever they do meanwhile: a set of lines, to which one is added.
//!
//! ```no_run
//! # use armilla::client::{Client, ClientError};
//! # use std::collections::BTreeSet;
//! # let client = Client::connect("127.0.0.1:7700")?;
//! client.update(b"guests", |siblings| {
//!     let texts = siblings.iter().map(|sibling| String::from_utf8_lossy(&sibling.value));
//!     let mut lines: BTreeSet<String> =
//!         texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
//!     lines.insert("Ada".to_owned());
//!     lines.into_iter().collect::<Vec<_>>().join("\n").into_bytes()
//! })?;
//! # Ok::<(), ClientError>(())
//! ```
//!
//! Several nodes, any of which serves any key, and a write that only counts if all three replicas hold it:
//!
//! ```no_run
//! use armilla::client::{Client, Get, Put};
//!
//! let client = Client::connect("10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700")?;
//! let written = client.put(b"city", b"Riga", &Put::default().write_quorum(3).strict())?;
//! assert_eq!(written.receipt.map(|receipt| receipt.votes), Some(3));
//! let found = client.get_with(b"city", &Get::default().read_quorum(1))?;
//! # Ok::<(), armilla::client::ClientError>(())
//! ```
//!
//! # Outcomes
//!
//! A write is done, or it did not happen, or its outcome is unknown; the third is never told as one of the others. What
//! did not happen is tried again within [`Options::request_timeout`]; so are reads. A write of unknown outcome is not,
//! unless [`Options::on_unknown`] says so. Each try of a write carries the same operation id.
//!
//! ```no_run
//! # use armilla::client::{Client, ClientError, Put};
//! # let client = Client::connect("127.0.0.1:7700")?;
//! match client.put(b"city", b"Riga", &Put::default()) {
//!     Ok(_) => println!("durable"),
//!     Err(error @ ClientError::OutcomeUnknown(_)) => println!("read the key before you write it again: {error}"),
//!     Err(error) => println!("nothing was changed: {error}"),
//! }
//! # Ok::<(), ClientError>(())
//! ```

mod answer;
mod ask;
pub mod blocking;
mod connection;
pub mod core;
mod error;
mod operation;
mod options;
mod pool;
mod retry;
mod route;
mod update;

pub use crate::wire::message::{HelloReply, PutMode, Receipt, Status};
pub use blocking::{
    Client, Found, Get, Hello, KeysPage, OnUnknown, Options, PageStart, Pending, Put, Sibling,
    StatusReport, Written,
};
pub use error::{Cause, ClientError};
pub use update::Updated;
