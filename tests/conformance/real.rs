//! What only the real backend has: sockets of others, descriptors, other processes, teardown.
