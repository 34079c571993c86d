//! What a request has to be to pass a proxy, and what the proxy does to its head (RFC 3261 §16.3, §16.4, §16.6).

use std::borrow::Cow;

use super::Target;
use super::keys::RelayKeys;
use crate::engine::extensions::required;
use crate::event::Reply;
use crate::message::header::{From, MaxForwards, ProxyRequire, Route, To, Via};
use crate::message::{HeaderError, HeaderName, Headers, NameAddr, Request, StatusCode, Uri};

/// Octets of a loop mark.
const MARK: usize = 8;

/// Max-Forwards of the request that goes on (RFC 3261 §16.3 step 3, §16.6 step 3).
pub(crate) fn next_max_forwards(headers: &Headers) -> Result<u8, Box<Reply>> {
    match headers.typed::<MaxForwards>() {
        Ok(MaxForwards(0)) => Err(Box::new(Reply::new(StatusCode::TOO_MANY_HOPS))),
        Ok(MaxForwards(left)) => Ok(left - 1),
        Err(HeaderError::Missing(_)) => Ok(MaxForwards::default().0),
        Err(error) => Err(Box::new(Reply::new(StatusCode::BAD_REQUEST).reason(error.to_string()))),
    }
}

/// Whether a request may pass a proxy at all (RFC 3261 §16.3 steps 3 and 5).
pub(crate) fn check_passage(headers: &Headers) -> Result<(), Box<Reply>> {
    next_max_forwards(headers)?;
    check_proxy_require(headers)
}

/// RFC 3261 §16.3 step 5: we have no extension that a client could ask of a proxy. What cannot be read is answered 400.
pub(crate) fn check_proxy_require(headers: &Headers) -> Result<(), Box<Reply>> {
    let asked = required::<ProxyRequire>(headers, |asked| asked.0)?;
    match asked.as_slice() {
        [] => Ok(()),
        tags => Err(Box::new(
            Reply::new(StatusCode::BAD_EXTENSION).header(HeaderName::UNSUPPORTED, tags.join(", ")),
        )),
    }
}

/// Points a request to its target: the new Request-URI, without what it is not to have, and with the target's own headers.
pub(crate) fn aim(request: &mut Request, target: &Target) {
    if let Some(uri) = &target.uri {
        request.uri = uri.clone();
    }
    let replaced = target.headers.iter().map(|(name, _)| name);
    for name in target.without.iter().cloned().chain(replaced) {
        request.headers.remove(name);
    }
    for (name, value) in target.headers.iter() {
        request.headers.push(name, value);
    }
}

/// Whether a target leaves a request what it cannot be without: by these it is answered, matched and ended.
pub(crate) fn is_whole(target: &Target) -> bool {
    const KEPT: [HeaderName; 6] = [
        HeaderName::VIA,
        HeaderName::FROM,
        HeaderName::TO,
        HeaderName::CALL_ID,
        HeaderName::CSEQ,
        HeaderName::MAX_FORWARDS,
    ];
    !target.without.iter().any(|name| KEPT.contains(name))
}

/// The second part of our branch: a hash of all that decides where this proxy sends a request. The same request with
/// the same fields comes out with the same mark, so one that carries it has looped, while one that was retargeted in
/// between has not (RFC 3261 §16.6 step 8; the topmost Via is left out, RFC 5393 §4.2).
pub(crate) fn mark(keys: &RelayKeys, node: &str, request: &Request) -> String {
    let headers = &request.headers;
    let from = headers.typed::<From>().ok().and_then(|from| from.tag().map(Cow::into_owned));
    let to = headers.typed::<To>().ok().and_then(|to| to.tag().map(Cow::into_owned));
    let number = request.sequence();
    let mut parts = vec![node.to_owned(), request.uri.to_string(), number.to_string()];
    parts.extend([from, to].map(Option::unwrap_or_default));
    let deciding =
        [HeaderName::CALL_ID, HeaderName::ROUTE, HeaderName::PROXY_REQUIRE, HeaderName::PROXY_AUTHORIZATION];
    for name in deciding {
        parts.extend(headers.all(name).map(Cow::into_owned));
    }
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    data_encoding::HEXLOWER.encode(&keys.mark::<MARK>(&parts))
}

/// Whether a request has passed here as it is now (RFC 3261 §16.3 step 4).
pub(crate) fn has_looped(headers: &Headers, mark: &str) -> bool {
    let marked = |via: Via| via.branch().is_some_and(|branch| branch.ends_with(mark));
    headers.typed_all::<Via>().flatten().any(marked)
}

/// A request of a strict router carries our Record-Route where its Request-URI belongs, and that in the last Route
/// (RFC 3261 §16.4). False where there is none to put back.
pub(crate) fn restore_uri(request: &mut Request) -> bool {
    let mut routes = routes(&request.headers);
    let Some(last) = routes.pop() else { return false };
    request.uri = last.uri;
    set_routes(&mut request.headers, &routes);
    true
}

/// The next hop after a proxy that is a strict router (its Route has no `lr`): its URI goes to the Request-URI, that to
/// the end of the Routes (RFC 3261 §16.6 step 6). Gives where the request goes then, which for a strict router is the
/// Request-URI (step 7).
pub(crate) fn suit_strict_router(request: &mut Request) -> Uri {
    let mut routes = routes(&request.headers);
    if routes.first().is_none_or(|first| first.uri.param("lr").is_some()) {
        return next_uri(request);
    }
    let first = routes.remove(0).uri.for_request_line();
    routes.push(NameAddr::new(std::mem::replace(&mut request.uri, first)));
    set_routes(&mut request.headers, &routes);
    request.uri.clone()
}

/// Where a request goes next that no strict router gets: its first Route, else its Request-URI.
pub(crate) fn next_uri(request: &Request) -> Uri {
    request.headers.typed::<Route>().map_or_else(|_| request.uri.clone(), |route| route.0.uri)
}

fn routes(headers: &Headers) -> Vec<NameAddr> {
    headers.typed_all::<Route>().flatten().map(|route| route.0).collect()
}

fn set_routes(headers: &mut Headers, routes: &[NameAddr]) {
    headers.remove(HeaderName::ROUTE);
    for route in routes {
        headers.push(HeaderName::ROUTE, route.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn request(uri: &str, extra: &str) -> Request {
        let text = format!(
            "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx.{extra}\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n{extra}\r\n"
        );
        let text = if extra.contains(':') { text.replacen(extra, "", 1) } else { text };
        match Message::parse(text.into()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("is a request"),
        }
    }

    #[test]
    fn a_mark_follows_all_that_decides_and_no_via() {
        let keys = RelayKeys::new([[5; 32]]).unwrap();
        let mark = |request: &Request| super::mark(&keys, "a", request);
        let plain = request("sip:b@192.0.2.1", "");
        let mut passed = plain.clone();
        passed
            .headers
            .push_front(HeaderName::VIA, format!("SIP/2.0/UDP us;branch=z9hG4bKy.{}", mark(&plain)));
        assert!(has_looped(&passed.headers, &mark(&passed)));
        let mut retargeted = passed.clone();
        retargeted.uri = "sip:c@192.0.2.1".parse().unwrap();
        assert!(!has_looped(&retargeted.headers, &mark(&retargeted)));
        assert!(!has_looped(&passed.headers, &super::mark(&keys, "b", &passed)), "another proxy's mark");
        let routed = request("sip:b@192.0.2.1", "Route: <sip:r;lr>\r\n");
        assert_ne!(mark(&plain), mark(&routed));
    }

    #[test]
    fn hops_run_out_at_zero() {
        let left = |value: &str| {
            let next = next_max_forwards(&request("sip:b@h", &format!("Max-Forwards: {value}\r\n")).headers);
            next.map_err(|reply| reply.status.code())
        };
        assert_eq!((left("1"), left("0")), (Ok(0), Err(483)));
        assert_eq!(next_max_forwards(&request("sip:b@h", "").headers).unwrap(), 70);
    }

    #[test]
    fn a_strict_router_s_request_gets_its_uri_back() {
        let mut strict = request("sip:stamp@us;lr", "Route: <sip:next;lr>, <sip:target@192.0.2.9>\r\n");
        assert!(restore_uri(&mut strict));
        assert_eq!(strict.uri.to_string(), "sip:target@192.0.2.9");
        assert_eq!(strict.headers.all(HeaderName::ROUTE).collect::<Vec<_>>(), ["<sip:next;lr>"]);
        assert!(!restore_uri(&mut request("sip:stamp@us;lr", "")));
    }

    #[test]
    fn a_strict_router_ahead_gets_its_own_uri() {
        let mut ahead = request("sip:target@192.0.2.9", "Route: <sip:strict.example>, <sip:r2;lr>\r\n");
        let next = suit_strict_router(&mut ahead);
        assert_eq!(next.to_string(), "sip:strict.example");
        assert_eq!(ahead.uri.to_string(), "sip:strict.example");
        let routes: Vec<_> = ahead.headers.all(HeaderName::ROUTE).collect();
        assert_eq!(routes, ["<sip:r2;lr>", "<sip:target@192.0.2.9>"]);
        let mut loose = request("sip:target@192.0.2.9", "Route: <sip:r;lr>\r\n");
        assert_eq!(suit_strict_router(&mut loose).to_string(), "sip:r;lr");
        assert_eq!(loose.uri.to_string(), "sip:target@192.0.2.9");
    }
}
