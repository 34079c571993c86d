//! Windows for fuzz targets and property tests onto readers that are private: feature `fuzzing`, for nobody else. Each
//! takes any octets and panics where what it reads does not hold.

use crate::dialog::refer;
use crate::net::stun;
use crate::roles::relay::stamp::{Stamp, StampedCall};
use crate::roles::relay::{RelayKeys, stamp};

/// A datagram on a port that STUN shares with SIP (RFC 5626 §8): what reads as a request gets an answer that reads.
///
/// # Panics
/// When it does not.
pub fn stun(datagram: &[u8]) {
    let Some(stun::Stun::Request(id, unknown)) = stun::parse(datagram) else { return };
    assert!(stun::looks_like(datagram));
    let answer = stun::answer(id, &unknown, ([192, 0, 2, 1], 5060).into());
    assert!(matches!(stun::parse(&answer), Some(stun::Stun::Response(of, _)) if of == id));
}

/// The user part of a Route of ours (RFC 3261 §16.6 step 4): nobody without the keys words one, and one that reads is
/// worded again as it came.
///
/// # Panics
/// When it is not.
pub fn stamp(user: &str, keys: &RelayKeys) {
    let call = StampedCall { call_id: b"c1".to_vec(), caller: String::from("f1") };
    let _ = stamp::resembles(user);
    if let Some(stamp) = Stamp::read(keys, &call, user) {
        assert_eq!(Stamp::read(keys, &call, &stamp.word(keys, &call)), Some(stamp));
    }
    let other = StampedCall { call_id: b"c2".to_vec(), ..call };
    assert!(Stamp::read(keys, &other, user).is_none(), "a Route of one call is taken for another");
}

/// The user part of a Route with these octets behind its version and key, signed: what is read past the signature.
#[must_use]
pub fn signed(octets: &[u8], keys: &RelayKeys) -> String {
    let call = StampedCall { call_id: b"c1".to_vec(), caller: String::from("f1") };
    stamp::signed(&[&[stamp::VERSION], &keys.id()[..], octets].concat(), keys, &call)
}

/// The body of a NOTIFY to a REFER (RFC 3515 §2.4.5): a status that reads is printed as one that reads.
///
/// # Panics
/// When it is not.
pub fn sipfrag(body: &[u8]) {
    if let Some(outcome) = refer::outcome(body) {
        let again = refer::outcome(&refer::fragment(outcome.status).bytes);
        assert_eq!(again.map(|again| again.status), Some(outcome.status));
    }
}
