//! Seeded randomness whose draws are the same on every machine.
