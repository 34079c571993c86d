//! ICE on the side that is lite (RFC 8445 §2.5): we have an address that is reachable, so the far end does the checks and
//! we answer them on the media's own port.
//!
//! A check proves itself with our password, which is why a pair that the far end nominates may turn the media round at
//! once: who could send it has seen the SDP. Octets in, octets out; no socket.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeStaticType, AttributeType, ErrorCode, MessageIntegrity, UnknownAttributes, Username,
    XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageWrite,
    MessageWriteExt, MessageWriteVec, ShortTermCredentials,
};

/// Addresses that are remembered as the far end's; it has as many candidates as it has networks.
const MOST_PROVEN: usize = 16;
/// Answers that wait to be sent at most; of one more, the oldest goes, and the far end checks again.
const MOST_PENDING: usize = 8;

const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
/// What a check may hold that has to be understood.
const KNOWN: [AttributeType; 4] = [Username::TYPE, MessageIntegrity::TYPE, PRIORITY, USE_CANDIDATE];

/// What a check meant for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It did not prove itself, or was no check; nothing follows from it.
    Refused,
    /// The far end can send from there.
    Reachable,
    /// The far end has chosen this address for the media (USE-CANDIDATE, RFC 8445 §7.3.1.5).
    Nominated,
}

/// Answers the checks of the far end.
pub struct IceResponder {
    ufrag: String,
    credentials: MessageIntegrityCredentials,
    pending: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where checks came from, the latest first.
    proven: VecDeque<SocketAddr>,
    refused: u64,
}

impl IceResponder {
    /// For the user fragment and the password that our SDP names (RFC 8839 §5.4).
    pub fn new(ufrag: &str, password: &str) -> Self {
        let credentials = ShortTermCredentials::new(password.to_owned()).into();
        let ufrag = ufrag.to_owned();
        Self { ufrag, credentials, pending: VecDeque::new(), proven: VecDeque::new(), refused: 0 }
    }

    /// Takes a datagram that is STUN; an answer may be ready afterwards.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8]) -> Check {
        let check = self.check(from, datagram).unwrap_or(Check::Refused);
        self.refused += u64::from(check == Check::Refused);
        check
    }

    /// Strangers get no answer: nobody but the far end has a reason to ask.
    fn check(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Check> {
        let message = Message::from_bytes(datagram).ok()?;
        let is_check = message.has_method(BINDING) && message.has_class(MessageClass::Request);
        let username = message.attribute::<Username>().ok()?;
        let (ours, _) = username.username().split_once(':')?;
        if !is_check || ours != self.ufrag || message.validate_integrity(&self.credentials).is_err() {
            return None;
        }
        let unknown: Vec<_> = message
            .iter_attributes()
            .map(|(_, attribute)| Attribute::get_type(&attribute))
            .filter(|kind| kind.comprehension_required() && !KNOWN.contains(kind))
            .collect();
        let answer = self.answer(&message, from, &unknown)?;
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((from, answer));
        if !self.proven.contains(&from) {
            self.proven.truncate(MOST_PROVEN - 1);
            self.proven.push_front(from);
        }
        let nominated = message.has_attribute(USE_CANDIDATE) && unknown.is_empty();
        Some(if nominated { Check::Nominated } else { Check::Reachable })
    }

    fn answer(&self, check: &Message<'_>, from: SocketAddr, unknown: &[AttributeType]) -> Option<Vec<u8>> {
        let room = MessageWriteVec::with_capacity(128);
        let mut answer = if unknown.is_empty() {
            let mut answer = Message::builder_success(check, room);
            answer.add_attribute(&XorMappedAddress::new(from, check.transaction_id())).ok()?;
            answer
        } else {
            let mut answer = Message::builder_error(check, room);
            answer.add_attribute(&ErrorCode::builder(420).build().ok()?).ok()?;
            answer.add_attribute(&UnknownAttributes::new(unknown)).ok()?;
            answer
        };
        answer.add_message_integrity(&self.credentials, IntegrityAlgorithm::Sha1).ok()?;
        answer.add_fingerprint().ok()?;
        Some(answer.finish())
    }

    /// The next answer, written into `out` (200 octets suffice), and whom it is for.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (to, answer) = self.pending.pop_front()?;
        out.get_mut(..answer.len())?.copy_from_slice(&answer);
        Some((answer.len(), to))
    }

    /// Whether the far end sent a check from there.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.proven.contains(&address)
    }

    /// STUN that did not prove itself.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl fmt::Debug for IceResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceResponder").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stun_types::attribute::{Fingerprint, RawAttribute};

    const PASSWORD: &str = "0123456789abcdefghijkl";

    fn from() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], 40_000))
    }

    fn credentials(password: &str) -> MessageIntegrityCredentials {
        ShortTermCredentials::new(password.to_owned()).into()
    }

    fn check(username: &str, password: &str, attributes: &[AttributeType]) -> Vec<u8> {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_attribute(&Username::new(username).unwrap()).unwrap();
        request.add_attribute(&RawAttribute::new(PRIORITY, &[0, 0, 1, 0])).unwrap();
        for attribute in attributes {
            request.add_attribute(&RawAttribute::new(*attribute, &[])).unwrap();
        }
        request.add_message_integrity(&credentials(password), IntegrityAlgorithm::Sha1).unwrap();
        request.add_fingerprint().unwrap();
        request.finish()
    }

    fn answered(ice: &mut IceResponder) -> Option<Vec<u8>> {
        let mut out = [0; 200];
        let (length, to) = ice.poll_transmit(&mut out)?;
        assert_eq!(to, from());
        Some(out[..length].to_vec())
    }

    #[test]
    fn a_check_is_answered_with_the_address_that_it_came_from_and_proof_of_us() {
        let mut ice = IceResponder::new("ours", PASSWORD);
        let request = check("ours:theirs", PASSWORD, &[]);
        assert!(!ice.knows(from()));
        assert_eq!(ice.handle(from(), &request), Check::Reachable);
        assert!(ice.knows(from()));
        let answer = answered(&mut ice).unwrap();
        let answer = Message::from_bytes(&answer).unwrap();
        assert!(answer.has_class(MessageClass::Success) && answer.has_attribute(Fingerprint::TYPE));
        assert_eq!(answer.transaction_id(), Message::from_bytes(&request).unwrap().transaction_id());
        let mapped = answer.attribute::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(answer.transaction_id()), from());
        assert!(answer.validate_integrity(&credentials(PASSWORD)).is_ok());
        assert_eq!(answered(&mut ice), None);
    }

    #[test]
    fn the_far_end_nominates() {
        let mut ice = IceResponder::new("ours", PASSWORD);
        assert_eq!(ice.handle(from(), &check("ours:theirs", PASSWORD, &[USE_CANDIDATE])), Check::Nominated);
        assert!(answered(&mut ice).is_some());
    }

    #[test]
    fn who_does_not_know_name_and_password_gets_no_answer() {
        let mut ice = IceResponder::new("ours", PASSWORD);
        let good = check("ours:theirs", PASSWORD, &[]);
        let mut changed = good.clone();
        changed[30] ^= 1;
        let indication = Message::builder_indication(BINDING, MessageWriteVec::new()).finish();
        let bad = [
            check("other:theirs", PASSWORD, &[]),
            check("ours", PASSWORD, &[]),
            check("ours:theirs", "another-password-of-22", &[]),
            changed,
            good[..good.len() - 1].to_vec(),
            indication,
            vec![0; 20],
            Vec::new(),
        ];
        for (at, datagram) in bad.iter().enumerate() {
            assert!(!ice.knows(from()), "{at}");
            assert_eq!(ice.handle(from(), datagram), Check::Refused, "{at}");
            assert_eq!(answered(&mut ice), None, "{at}");
        }
        assert_eq!(ice.refused(), bad.len() as u64);
    }

    #[test]
    fn what_has_to_be_understood_and_is_not_is_named() {
        let mut ice = IceResponder::new("ours", PASSWORD);
        let strange = AttributeType::new(0x7abc);
        assert_eq!(
            ice.handle(from(), &check("ours:x", PASSWORD, &[USE_CANDIDATE, strange])),
            Check::Reachable
        );
        let answer = answered(&mut ice).unwrap();
        let answer = Message::from_bytes(&answer).unwrap();
        assert_eq!(answer.attribute::<ErrorCode>().unwrap().code(), 420);
        assert!(answer.attribute::<UnknownAttributes>().unwrap().has_attribute(strange));
    }

    #[test]
    fn a_flood_of_checks_is_not_stored() {
        let mut ice = IceResponder::new("ours", PASSWORD);
        let request = check("ours:theirs", PASSWORD, &[]);
        (0..1_000).for_each(|_| assert_eq!(ice.handle(from(), &request), Check::Reachable));
        assert_eq!(std::iter::from_fn(|| answered(&mut ice)).count(), MOST_PENDING);
    }
}
