//! Which transaction a message belongs to (RFC 3261 §17.2.3 for requests, §17.1.3 for responses, §8.2.2.2 for merged
//! requests).
//!
//! Keys own their text: a key outlives the message it was read from, and must not keep its buffer alive.

use std::sync::Arc;

use crate::message::header::{CSeq, CallId, From, Via};
use crate::message::{HeaderError, Method, Request};

/// The magic cookie that marks a branch as unique (RFC 3261 §8.1.1.7).
pub(crate) const MAGIC_COOKIE: &str = "z9hG4bK";

/// What a server transaction is found by. Two shapes that cannot be confused: by the branch, or by the rules of
/// RFC 2543 for clients that send none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    id: Arc<str>,
    method: Method,
}

impl ServerKey {
    /// The key of a request. An ACK and a CANCEL get keys of their own method; see [`ServerKey::of_invite`].
    pub(crate) fn of(request: &Request, via: &Via) -> Result<Self, HeaderError> {
        let branch = via.branch().unwrap_or_default();
        let id = match branch.strip_prefix(MAGIC_COOKIE) {
            Some(unique) if !unique.is_empty() => by_branch(&branch, via),
            _ => by_rfc2543(request, via)?,
        };
        Ok(Self { id: id.into(), method: owned(&request.method) })
    }

    /// The method of the request.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The branch, lower case; none where it was not unique.
    pub(crate) fn branch(&self) -> Option<&str> {
        self.id.split_once('\n').map(|(branch, _)| branch).filter(|branch| !branch.is_empty())
    }

    /// The key of a CANCEL of this request; none for an INVITE, which the CANCEL's own key leads to, and for a CANCEL.
    pub(crate) fn of_cancel(&self) -> Option<Self> {
        let cancellable = !matches!(self.method, Method::Invite | Method::Cancel);
        cancellable.then(|| Self { id: self.id.clone(), method: Method::Cancel })
    }

    /// The key of the INVITE that this ACK or CANCEL is about.
    pub(crate) fn of_invite(&self) -> Self {
        Self { id: self.id.clone(), method: Method::Invite }
    }
}

/// The method without the buffer it was parsed from.
fn owned(method: &Method) -> Method {
    match method {
        Method::Other(_) => Method::new(method.as_str().to_owned()).expect("a method is a token"),
        known => known.clone(),
    }
}

/// sent-by is part of the key: two clients may draw the same branch (RFC 3261 §17.2.3).
fn by_branch(branch: &str, via: &Via) -> String {
    let port = via.port.unwrap_or(0).to_string();
    let mut id = [branch, "\n", via.host_text(), ":", &port].concat();
    id.make_ascii_lowercase();
    id
}

/// Request-URI, From tag, Call-ID, CSeq number and topmost Via (RFC 3261 §17.2.3). The To tag is left out, for the ACK
/// carries the one of our response where the INVITE has none.
fn by_rfc2543(request: &Request, via: &Via) -> Result<String, HeaderError> {
    let call_id: CallId = request.headers.typed()?;
    let from: From = request.headers.typed()?;
    let cseq: CSeq = request.headers.typed()?;
    let tag = from.tag().unwrap_or_default();
    Ok(format!(
        "\n{}\n{tag}\n{call_id}\n{}\n{}:{}\n{}",
        request.uri,
        cseq.number,
        via.host(),
        via.port.unwrap_or(0),
        via.branch().unwrap_or_default()
    ))
}

/// What makes a request the same as one that came by another path (RFC 3261 §8.2.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct MergeKey(Arc<str>);

impl MergeKey {
    pub(crate) fn of(request: &Request) -> Result<Self, HeaderError> {
        let call_id: CallId = request.headers.typed()?;
        let from: From = request.headers.typed()?;
        let cseq: CSeq = request.headers.typed()?;
        let tag = from.tag().unwrap_or_default();
        let number = cseq.number.to_string();
        let parts = [&tag, "\n", &number, "\n", request.method.as_str(), "\n", &call_id.to_str()];
        Ok(Self(parts.concat().into()))
    }
}

/// What a client transaction is found by: the branch we drew and the method (RFC 3261 §17.1.3), since a CANCEL shares
/// the branch of its INVITE.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    pub(crate) branch: Box<str>,
    pub(crate) method: Method,
}
