//! One replica of a key: its state is joined, minted and stored here, one write of a key after another.

pub mod identity;
pub mod join;
pub mod key_queue;
pub mod restored;
pub mod witness;
pub mod write;
