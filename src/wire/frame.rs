//! Frames in a stream of bytes.
