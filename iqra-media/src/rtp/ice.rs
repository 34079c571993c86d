//! ICE on the side that is lite (RFC 8445 §2.5): we have an address that is reachable, so the far end does the checks and
//! we answer them on the media's own port.
//!
//! A check proves itself with our password, which is why a pair that the far end nominates may turn the media round at
//! once: who could send it has seen the SDP. Octets in, octets out; no socket.
//!
//! When ICE restarts, both sides change their credentials, and media goes on as before until the far end has chosen anew
//! (RFC 8445 §9). So checks of the session before are answered until a check of the new one nominates.

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

/// A session of ICE, by our credentials.
struct Session {
    ufrag: String,
    credentials: MessageIntegrityCredentials,
    /// Where checks came from, the latest first.
    proven: VecDeque<SocketAddr>,
}

/// Answers the checks of the far end.
pub struct IceResponder {
    session: Session,
    /// What it restarted from, until the far end has chosen anew.
    before: Option<Session>,
    pending: VecDeque<(SocketAddr, Vec<u8>)>,
    refused: u64,
}

impl IceResponder {
    /// For the user fragment and the password that our SDP names (RFC 8839 §5.4).
    pub fn new(ufrag: &str, password: &str) -> Self {
        let credentials = ShortTermCredentials::new(password.to_owned()).into();
        let session = Session { ufrag: ufrag.to_owned(), credentials, proven: VecDeque::new() };
        Self { session, before: None, pending: VecDeque::new(), refused: 0 }
    }

    /// What stands after a further offer and answer, for which `next` was made: a restart where that has other
    /// credentials, else this one.
    #[must_use]
    pub fn followed_by(self, next: Self) -> Self {
        match self.session.is(&next.session) {
            true => self,
            false => {
                Self { before: Some(self.before.unwrap_or(self.session)), session: next.session, ..self }
            }
        }
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
        let is_meant = |session: &Session| {
            ours == session.ufrag && message.validate_integrity(&session.credentials).is_ok()
        };
        if !is_check {
            return None;
        }
        let is_new = is_meant(&self.session);
        let session =
            if is_new { &mut self.session } else { self.before.as_mut().filter(|s| is_meant(s))? };
        let unknown: Vec<_> = message
            .iter_attributes()
            .map(|(_, attribute)| Attribute::get_type(&attribute))
            .filter(|kind| kind.comprehension_required() && !KNOWN.contains(kind))
            .collect();
        let answer = session.answer(&message, from, &unknown)?;
        session.remember(from);
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((from, answer));
        let nominated = message.has_attribute(USE_CANDIDATE) && unknown.is_empty();
        if is_new && nominated {
            self.before = None;
        }
        Some(if nominated { Check::Nominated } else { Check::Reachable })
    }

    /// The next answer, written into `out` (200 octets suffice), and whom it is for.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (to, answer) = self.pending.pop_front()?;
        out.get_mut(..answer.len())?.copy_from_slice(&answer);
        Some((answer.len(), to))
    }

    /// Whether the far end sent a check from there.
    pub fn knows(&self, address: SocketAddr) -> bool {
        let sessions = self.before.iter().chain([&self.session]);
        sessions.into_iter().any(|session| session.proven.contains(&address))
    }

    /// STUN that did not prove itself.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Session {
    fn is(&self, other: &Self) -> bool {
        self.ufrag == other.ufrag && self.credentials == other.credentials
    }

    fn remember(&mut self, from: SocketAddr) {
        if !self.proven.contains(&from) {
            self.proven.truncate(MOST_PROVEN - 1);
            self.proven.push_front(from);
        }
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
}

impl fmt::Debug for IceResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceResponder").field("ufrag", &self.session.ufrag).finish_non_exhaustive()
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
    fn a_restart_answers_checks_of_the_session_before_until_the_far_end_chose_anew() {
        let other = "another-password-of-22";
        let elsewhere = SocketAddr::from(([192, 0, 2, 8], 40_000));
        let mut ice = IceResponder::new("ours", PASSWORD);
        assert_eq!(ice.handle(elsewhere, &check("ours:theirs", PASSWORD, &[])), Check::Reachable);
        let mut ice = ice.followed_by(IceResponder::new("ours", PASSWORD));
        assert!(ice.before.is_none() && ice.knows(elsewhere), "the same credentials are no restart");

        ice = ice.followed_by(IceResponder::new("anew", other));
        ice.pending.clear();
        let proof = |ice: &mut IceResponder, password| {
            let answer = answered(ice).unwrap();
            Message::from_bytes(&answer).unwrap().validate_integrity(&credentials(password)).is_ok()
        };
        let (old, new) = ("ours:theirs", "anew:fresh");
        assert_eq!(ice.handle(from(), &check(old, PASSWORD, &[USE_CANDIDATE])), Check::Nominated);
        assert!(proof(&mut ice, PASSWORD));
        assert_eq!(ice.handle(from(), &check(new, other, &[])), Check::Reachable, "nothing is chosen yet");
        assert!(proof(&mut ice, other));
        for (name, password) in [(new, PASSWORD), (old, other)] {
            assert_eq!(ice.handle(from(), &check(name, password, &[])), Check::Refused);
        }
        assert_eq!(ice.handle(from(), &check(old, PASSWORD, &[])), Check::Reachable);
        assert_eq!(ice.handle(from(), &check(new, other, &[USE_CANDIDATE])), Check::Nominated);
        assert_eq!(ice.handle(from(), &check(old, PASSWORD, &[])), Check::Refused, "it is over");
        assert!(ice.knows(from()) && !ice.knows(elsewhere));
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
