//! Where a key lies on the circle, and which virtual node covers that place.

/// A point of the 64-bit circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// One of the Q equal arcs, counted from position 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualNode(pub u32);

impl Position {
    /// xxh3-64, seed 0, over one length byte, the bucket name, the key. The bucket is at most 255 bytes.
    pub fn of(_bucket: &[u8], _key: &[u8]) -> Position {
        Position(0)
    }

    /// The virtual node among `count` (a power of two): the top bits.
    pub fn virtual_node(self, _count: u32) -> VirtualNode {
        VirtualNode(0)
    }
}
