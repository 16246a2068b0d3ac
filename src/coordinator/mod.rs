//! Who runs a request decides here, and only decides: quorums, votes, deadlines, receipts. Pure: no clock, no sockets.

pub mod asked;
pub mod get;
pub mod put;
pub mod quorum;
pub mod tally;
