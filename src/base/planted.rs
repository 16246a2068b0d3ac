//! Planted bugs: switches that only the simulator has, each named after what it breaks.
