//! Benches only, beside the published SIP parsers.
