//! The two checksums: crc32c guards bytes on disk, xxh3-64 names and compares what is persisted or sent.
