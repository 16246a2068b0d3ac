//! Who is in the cluster: how its first ring is formed, who is let in, and how nodes prove to each other that they are
//! of it.

pub mod formation;
pub mod proof;
pub mod token;
