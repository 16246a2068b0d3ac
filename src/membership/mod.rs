//! Who is in the cluster: how its first ring is formed, and how nodes prove to each other that they are of it.

pub mod formation;
pub mod proof;
