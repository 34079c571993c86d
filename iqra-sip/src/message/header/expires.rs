//! `Expires` and `Min-Expires`: how long something holds, in seconds (RFC 3261 §20.19, §20.23).

use super::number::number_header;

number_header! {
    /// Seconds until the content, a registration or an invitation expires.
    Expires(u32), EXPIRES
}
number_header! {
    /// The shortest lifetime in seconds that a registrar takes, in a 423.
    MinExpires(u32), MIN_EXPIRES
}
