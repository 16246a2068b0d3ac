//! Time limits on futures.
