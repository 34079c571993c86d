//! A redirect server's answer: 3xx with the places to try, best first (RFC 3261 §8.3, §21.3).

use crate::event::Reply;
use crate::message::{HeaderName, StatusCode, Uri};

/// A place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Where the caller may go.
    pub uri: Uri,
    /// How much it is preferred, in thousandths: 0 to 1,000, anything above counts as 1,000 (RFC 3261 §20.10).
    pub q: u16,
}

/// The 3xx that names these places in this order; further headers are the caller's to add. `None` where there is no
/// place to name, or the status is no redirection.
#[must_use]
pub fn redirect(status: StatusCode, choices: impl IntoIterator<Item = Choice>) -> Option<Reply> {
    let mut reply = Reply::new(status);
    for Choice { uri, q } in choices {
        reply.headers.push(HeaderName::CONTACT, format!("<{uri}>;q={}", f32::from(q.min(1_000)) / 1_000.0));
    }
    (status.is_redirect() && reply.headers.contains(HeaderName::CONTACT)).then_some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header::Contact;

    fn choice(uri: &str, q: u16) -> Choice {
        Choice { uri: uri.parse().unwrap(), q }
    }

    #[test]
    fn contacts_keep_their_order_and_say_how_much_each_is_preferred() {
        let choices = [choice("sip:a@192.0.2.1;token=x", 1_000), choice("sip:a@192.0.2.2", 250)];
        let reply = redirect(StatusCode::MOVED_TEMPORARILY, choices).unwrap();
        let contacts: Vec<_> = reply.headers.all(HeaderName::CONTACT).collect();
        assert_eq!(contacts, ["<sip:a@192.0.2.1;token=x>;q=1", "<sip:a@192.0.2.2>;q=0.25"]);
        assert_eq!(reply.headers.typed_all::<Contact>().flatten().count(), 2);
    }

    #[test]
    fn nowhere_to_go_is_no_redirection() {
        assert!(redirect(StatusCode::MOVED_TEMPORARILY, []).is_none());
        assert!(redirect(StatusCode::OK, [choice("sip:a@192.0.2.1", 1)]).is_none());
    }
}
