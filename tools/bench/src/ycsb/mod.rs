//! YCSB's formulas: which key, which operation. No clock, no socket; randomness is handed in as draws of a seed.
//!
//! They are those of YCSB's core package, quirks included, so that a figure taken here can stand beside others.

pub mod chooser;
pub mod draws;
pub mod inserts;
pub mod key;
pub mod mix;
pub mod zipfian;
