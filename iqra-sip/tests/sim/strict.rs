//! Strict routers of the simulated network: proxies after RFC 2543 that keep nothing, stay on the path by a Record-Route
//! without `lr`, and put the next Route where the Request-URI belongs (RFC 3261 §12.2.1.1, §16.4).

use std::net::SocketAddr;

/// Where strict routers stand, in the order that a call meets them.
pub(crate) const STRICT: [&str; 2] = ["10.0.0.60:5060", "10.0.0.61:5060"];

/// What a strict router makes of a message, and whom it gets next; `onward` is where a call goes that has no Route.
pub(crate) fn pass(own: &str, onward: &str, text: &str) -> Option<(SocketAddr, String)> {
    let (first, rest) = text.split_once("\r\n")?;
    let top = text.lines().find(|line| line.starts_with("Via: "))?;
    if first.starts_with("SIP/2.0 ") {
        let back = text.replacen(&format!("{top}\r\n"), "", 1);
        let via = back.lines().find(|line| line.starts_with("Via: "))?;
        let next = via.split(' ').nth(2)?.split(';').next()?.parse().ok()?;
        return Some((next, back));
    }
    let branch = top.split("branch=z9hG4bK").nth(1)?.split(';').next()?;
    let mut words = first.split(' ');
    let (method, mut uri) = (words.next()?, words.next()?.to_owned());
    let mut routes: Vec<String> = values(text, "Route: ").collect();
    let next = match routes.is_empty() {
        true => onward.parse().ok()?,
        false => {
            uri = routes.remove(0).trim_matches(['<', '>']).to_owned();
            address(&uri)?
        }
    };
    let mut head = format!("{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch}s\r\n");
    let dialog = text.lines().any(|line| line.starts_with("To: ") && line.contains(";tag="));
    if method == "INVITE" && !dialog {
        head.push_str(&format!("Record-Route: <sip:{own}>\r\n"));
    }
    routes.iter().for_each(|route| head.push_str(&format!("Route: {route}\r\n")));
    let (headers, body) = rest.split_once("\r\n\r\n")?;
    let kept = headers.lines().filter(|line| !line.starts_with("Route: "));
    kept.for_each(|line| head.push_str(&format!("{line}\r\n")));
    Some((next, format!("{head}\r\n{body}")))
}

/// The values of a header, however many stand in a line.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(name));
    lines.flat_map(|line| line.split(',')).map(|value| value.trim().to_owned())
}

fn address(uri: &str) -> Option<SocketAddr> {
    let at = uri.strip_prefix("sip:")?;
    let at = at.rsplit_once('@').map_or(at, |(_, at)| at);
    at.split(';').next()?.parse().ok()
}
