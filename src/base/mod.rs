//! The ground floor: limits, units, checksums, seeded randomness, and the switches of the
//! simulator.

pub mod checksum;
pub mod histogram;
pub mod limits;
pub mod marks;
pub mod planted;
pub mod rng;
pub mod units;
pub mod varint;

#[cfg(test)]
pub mod golden;
