//! The route set: the proxies that asked to stay on the path, and how a request is addressed through them
//! (RFC 3261 §12.1, §12.2.1.1, §16.12.1.2).

use crate::message::header::RecordRoute;
use crate::message::{Headers, Text, Uri};

/// Routes in the order that our requests visit them.
#[derive(Debug, Default)]
pub(crate) struct RouteSet(Vec<(Uri, Text)>);

impl RouteSet {
    /// The route set of the side that was called: Record-Route as it stands (RFC 3261 §12.1.1).
    pub(crate) fn of_request(headers: &Headers) -> Self {
        let readable = headers.typed_all::<RecordRoute>().flatten();
        Self(readable.map(|route| (route.uri.detached(), Text::from(route.to_string()))).collect())
    }

    /// The route set of the side that called: Record-Route reversed (RFC 3261 §12.1.2).
    pub(crate) fn of_response(headers: &Headers) -> Self {
        let mut routes = Self::of_request(headers);
        routes.0.reverse();
        routes
    }

    /// The first hop.
    pub(crate) fn first(&self) -> Option<&Uri> {
        self.0.first().map(|(uri, _)| uri)
    }

    /// The Request-URI and the Route values of a request to `target`. A first hop without `lr` is a strict router:
    /// it gets its own URI as Request-URI, without what may not stand there, and the target goes last (RFC 3261 §12.2.1.1).
    pub(crate) fn addressed(&self, target: &Uri) -> (Uri, Vec<Text>) {
        let values = || self.0.iter().map(|(_, value)| value.clone());
        match self.first() {
            Some(first) if first.param("lr").is_none() => {
                let last = Text::from(format!("<{target}>"));
                (first.for_request_line(), values().skip(1).chain([last]).collect())
            }
            _ => (target.clone(), values().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HeaderName;

    fn addressed(record_routes: &[&str]) -> (String, Vec<String>) {
        let mut headers = Headers::new();
        for value in record_routes {
            headers.push(HeaderName::RECORD_ROUTE, *value);
        }
        let target: Uri = "sip:callee@192.0.2.9".parse().unwrap();
        let (uri, routes) = RouteSet::of_request(&headers).addressed(&target);
        (uri.to_string(), routes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_routes_a_request_goes_to_the_target() {
        assert_eq!(addressed(&[]), ("sip:callee@192.0.2.9".into(), vec![]));
    }

    #[test]
    fn loose_routers_leave_the_request_uri_alone() {
        let (uri, routes) = addressed(&["<sip:p1.example;lr>, <sip:p2.example;lr>"]);
        assert_eq!(uri, "sip:callee@192.0.2.9");
        assert_eq!(routes, ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]);
    }

    #[test]
    fn a_strict_router_takes_the_request_uri_and_the_target_goes_last() {
        let (uri, routes) = addressed(&["<sip:p1.example>", "<sip:p2.example;lr>"]);
        assert_eq!(uri, "sip:p1.example");
        assert_eq!(routes, ["<sip:p2.example;lr>", "<sip:callee@192.0.2.9>"]);
    }

    #[test]
    fn a_strict_router_s_own_uri_comes_without_headers_and_method() {
        let (uri, _) = addressed(&["<sip:p@p1.example;transport=tcp;method=INVITE?Subject=x>"]);
        assert_eq!(uri, "sip:p@p1.example;transport=tcp");
    }
}
