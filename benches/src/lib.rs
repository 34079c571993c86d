//! Throughput of the paths that a call runs on: see `benches/`.
