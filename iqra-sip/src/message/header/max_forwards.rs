//! `Max-Forwards`: how many more proxies a request may pass (RFC 3261 §20.22).

use super::number::number_header;

number_header! {
    /// Hops left, 0 to 255. A proxy that gets 0 answers 483.
    MaxForwards(u8), MAX_FORWARDS
}

impl Default for MaxForwards {
    /// 70, as RFC 3261 §8.1.1.6 recommends.
    fn default() -> MaxForwards {
        MaxForwards(70)
    }
}
