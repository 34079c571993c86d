//! Tests against real programs: see `tests/`.
