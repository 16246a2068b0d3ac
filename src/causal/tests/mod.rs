//! Causality against its dumb twin: explicit sets of events.

mod bytes;
mod properties;
mod twin;
mod worlds;
