//! Keeps the number of runs small: neighbours in age and of a like size are merged into one.

mod merge;
pub mod pick;
