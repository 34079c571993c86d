//! A ladder of one call: who sent what when, a rail for each of us. In: trace records. Out: text.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::numbers::hidden;
use super::uris::found;
use super::{Direction, TraceRecord};
use crate::message::HeaderName;

/// How a ladder is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Replaces the digits of phone numbers in start lines, all but the last two, and leaves out the passwords, parameters
    /// and headers of URIs, which may be secrets. Default true.
    pub redact: bool,
    /// Characters from one rail to the next, 8 or more. Default 56.
    pub width: usize,
}

/// Addresses that have a rail of their own.
const PEERS: usize = 6;

impl Default for Style {
    fn default() -> Self {
        Self { redact: true, width: 56 }
    }
}

/// An endpoint whose messages were traced, as a rail of [`draw_several`].
#[derive(Debug, Clone, Copy)]
pub struct Traced<'a> {
    /// What stands above its rail.
    pub name: &'a str,
    /// What it sent and received, in order.
    pub records: &'a [TraceRecord],
}

/// Draws the messages of one Call-ID, times in milliseconds from the first of them. Retransmissions are marked. The peer
/// that spoke first stands on the left, we beside it, and every other address that we speak with to the right of us, six
/// in all; those beyond share the last rail.
#[must_use]
pub fn draw(records: &[TraceRecord], call_id: &str, style: Style) -> String {
    let of_call = of_call(records, call_id);
    let mut remotes: Vec<SocketAddr> = Vec::new();
    for record in &of_call {
        if !remotes.contains(&record.flow.remote) {
            remotes.push(record.flow.remote);
        }
    }
    let mut names: Vec<String> = remotes.iter().take(PEERS).map(SocketAddr::to_string).collect();
    if remotes.len() > PEERS {
        names[PEERS - 1] = format!("{} others", remotes.len() - PEERS + 1);
    }
    if let Some(first) = of_call.first() {
        names.insert(1, first.flow.local.to_string());
    }
    let rail = |remote| match remotes.iter().position(|one| *one == remote).unwrap_or_default().min(PEERS - 1)
    {
        0 => 0,
        other => other + 1,
    };
    let rungs = of_call.into_iter().map(|record| Rung::new(1, rail(record.flow.remote), record)).collect();
    render(&names, rungs, call_id, style)
}

/// The same for one peer that talks to several endpoints, such as a phone that a proxy sends on to a backend: its rail
/// stands on the left, theirs beside it in the given order, and all messages come in the order of their time. What the
/// endpoints say to each other goes between their rails, as its sender traced it.
#[must_use]
pub fn draw_several(peer: &str, ends: &[Traced<'_>], call_id: &str, style: Style) -> String {
    let names: Vec<String> =
        std::iter::once(peer).chain(ends.iter().map(|end| end.name)).map(str::to_owned).collect();
    let calls: Vec<_> = ends.iter().map(|end| of_call(end.records, call_id)).collect();
    let end_at =
        |remote| calls.iter().position(|records| records.iter().any(|record| record.flow.local == remote));
    let mut rungs = Vec::new();
    for (index, records) in calls.iter().enumerate() {
        for record in records {
            let other = end_at(record.flow.remote).filter(|other| *other != index);
            if other.is_none_or(|other| !has_sent(&calls[other], record)) {
                rungs.push(Rung::new(index + 1, other.map_or(0, |other| other + 1), record));
            }
        }
    }
    render(&names, rungs, call_id, style)
}

fn of_call<'a>(records: &'a [TraceRecord], call_id: &str) -> Vec<&'a TraceRecord> {
    records.iter().filter(|record| call_id_of(record).as_deref() == Some(call_id)).collect()
}

/// Whether what came in is what the other endpoint traced as it sent it.
fn has_sent(other: &[&TraceRecord], came: &TraceRecord) -> bool {
    came.direction == Direction::In
        && other.iter().any(|sent| {
            sent.direction == Direction::Out
                && sent.flow.remote == came.flow.local
                && sent.bytes == came.bytes
        })
}

/// A message from one rail to another.
struct Rung<'a> {
    from: usize,
    to: usize,
    record: &'a TraceRecord,
}

impl<'a> Rung<'a> {
    fn new(our: usize, their: usize, record: &'a TraceRecord) -> Self {
        match record.direction {
            Direction::In => Self { from: their, to: our, record },
            Direction::Out => Self { from: our, to: their, record },
        }
    }

    fn repeats(&self, earlier: &Rung<'_>) -> bool {
        (self.from, self.to) == (earlier.from, earlier.to) && self.record.bytes == earlier.record.bytes
    }
}

fn render(names: &[String], mut rungs: Vec<Rung<'_>>, call_id: &str, style: Style) -> String {
    rungs.sort_by_key(|rung| rung.record.at);
    let Some(first) = rungs.first() else {
        return format!("no message of Call-ID {call_id} was traced\n");
    };
    let began = first.record.at;
    let mut text = heading(names, style);
    for (index, rung) in rungs.iter().enumerate() {
        let since = rung.record.at.duration_since(began).unwrap_or(Duration::ZERO);
        let repeated = rungs[..index].iter().any(|earlier| rung.repeats(earlier));
        let _ = writeln!(text, "{:>8}  {}", since.as_millis(), line(rung, repeated, names.len(), style));
    }
    text
}

/// Each name begins where its rail stands, and ends before the next.
fn heading(names: &[String], style: Style) -> String {
    let gap = column(1, style);
    let named: String = names.iter().map(|name| format!("{:<gap$}", cut(name, gap - 1))).collect();
    format!("{:>8}  {}\n", "ms", named.trim_end())
}

/// Where a rail stands.
fn column(rail: usize, style: Style) -> usize {
    rail * (style.width.max(8) - 1)
}

/// The rails with one arrow from one to another.
fn line(rung: &Rung<'_>, repeated: bool, rails: usize, style: Style) -> String {
    let (left, right) = (rung.from.min(rung.to), rung.from.max(rung.to));
    let inside = column(right - left, style) - 1;
    let label = label(rung.record, repeated, inside - 6, style);
    let dashes = "-".repeat(inside - 4 - label.chars().count());
    let arrow =
        if rung.from < rung.to { format!("- {label} {dashes}>") } else { format!("<{dashes} {label} -") };
    let gap = format!("{:gap$}", "", gap = column(1, style) - 1);
    let mut text = format!("|{gap}").repeat(left) + "|" + &arrow + "|";
    text += &format!("{gap}|").repeat(rails - 1 - right);
    text
}

/// What a message is, in so many characters: a long start line is cut, the method of a response and the mark stay.
fn label(record: &TraceRecord, repeated: bool, room: usize, style: Style) -> String {
    let (shown, mut method) = start_line(record, style);
    if repeated {
        method.push_str(" (again)");
    }
    let left = room.saturating_sub(method.chars().count());
    if left < SHORTEST_SHOWN { cut(&(shown + &method), room) } else { cut(&shown, left) + &method }
}

/// Room for a status code, and for the mark of what was cut.
const SHORTEST_SHOWN: usize = 4;

fn cut(text: &str, room: usize) -> String {
    let keep = room.saturating_sub(1);
    if text.chars().count() <= room {
        text.to_owned()
    } else {
        text.chars().take(keep).chain(['…']).collect()
    }
}

/// The start line, and for a response the method that it answers.
fn start_line(record: &TraceRecord, style: Style) -> (String, String) {
    let line =
        record.bytes.split(|&b| b == b'\r' || b == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    let line: String =
        String::from_utf8_lossy(line).chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if let Some(status) = line.strip_prefix("SIP/2.0 ") {
        let (code, reason) = status.split_at_checked(3).unwrap_or((status, ""));
        let shown = if style.redact { code.to_owned() + &hidden(reason, false) } else { status.to_owned() };
        return (shown, method_of(record).map(|method| format!(" ({method})")).unwrap_or_default());
    }
    let request = line.strip_suffix(" SIP/2.0").unwrap_or(&line);
    (if style.redact { redacted(request) } else { request.to_owned() }, String::new())
}

/// A method and a URI; a malformed line may hold anything, so no more of it is shown.
fn redacted(request: &str) -> String {
    let mut words = request.split_whitespace();
    let method = hidden(words.next().unwrap_or_default(), false);
    let shown = words.next().map_or(method.clone(), |uri| format!("{method} {}", redacted_uri(uri)));
    if words.next().is_some() { shown + " …" } else { shown }
}

/// Without password, parameters and headers, which may be tokens, and the digits of a number hidden.
fn redacted_uri(uri: &str) -> String {
    let found =
        uri.find(':').and_then(|colon| found(uri.as_bytes(), colon)).filter(|found| !found.user.is_empty());
    let Some(found) = found else {
        return redacted_host(uri);
    };
    let password = if found.password.is_empty() { "" } else { ":…" };
    let at = if uri[..found.rest].ends_with('@') { "@" } else { "" };
    let (scheme, user) =
        (&uri[..found.user.start], hidden(without_parameters(&uri[found.user]).as_str(), true));
    format!("{scheme}{user}{password}{at}{}", redacted_host(&uri[found.rest..]))
}

/// A port has five digits at most and is no number.
fn redacted_host(text: &str) -> String {
    let text = without_parameters(text);
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => format!("{}:{port}", hidden(host, false)),
        _ => hidden(&text, false),
    }
}

fn without_parameters(text: &str) -> String {
    let end = text.find([';', '?']).map_or(text.len(), |end| end + 1);
    if end == text.len() { text.to_owned() } else { format!("{}…", &text[..end]) }
}

fn method_of(record: &TraceRecord) -> Option<String> {
    let cseq = header(record, &HeaderName::CSEQ)?;
    cseq.split_whitespace().nth(1).map(str::to_owned)
}

fn call_id_of(record: &TraceRecord) -> Option<String> {
    header(record, &HeaderName::CALL_ID)
}

/// The first value of a header, read by lines: a trace holds malformed messages too.
fn header(record: &TraceRecord, name: &HeaderName) -> Option<String> {
    let text = String::from_utf8_lossy(&record.bytes);
    let head = text.split("\r\n\r\n").next()?;
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (HeaderName::from(key.trim()) == *name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{Flow, Transport};
    use std::time::SystemTime;

    fn record(ms: u64, direction: Direction, start: &str, cseq: &str) -> TraceRecord {
        between("192.0.2.1", "192.0.2.7", (ms, direction, start, cseq))
    }

    fn between(
        us: &str,
        peer: &str,
        (ms, direction, start, cseq): (u64, Direction, &str, &str),
    ) -> TraceRecord {
        let at = |host: &str| SocketAddr::new(host.parse().unwrap(), 5060);
        let (local, remote) = (at(us), at(peer));
        let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
        let bytes = format!("{start}\r\ni: c1\r\nCSeq: {cseq}\r\n\r\n").into();
        TraceRecord { at: SystemTime::UNIX_EPOCH + Duration::from_millis(ms), direction, flow, bytes }
    }

    #[test]
    fn a_call_reads_from_top_to_bottom_with_its_numbers_hidden() {
        let records = [
            record(100, Direction::In, "INVITE sip:+15550001234@192.0.2.1 SIP/2.0", "1 INVITE"),
            record(102, Direction::Out, "SIP/2.0 200 OK", "1 INVITE"),
            record(602, Direction::Out, "SIP/2.0 200 OK", "1 INVITE"),
        ];
        assert_eq!(
            draw(&records, "c1", Style::default()),
            "      ms  192.0.2.7:5060                                         192.0.2.1:5060\n       \
             0  |- INVITE sip:+xxxxxxxxx34@192.0.2.1 ----------------->|\n       \
             2  |<----------------------------------- 200 OK (INVITE) -|\n     \
             502  |<--------------------------- 200 OK (INVITE) (again) -|\n"
        );
    }

    #[test]
    fn several_endpoints_stand_beside_their_peer_in_one_order_of_time() {
        let proxy = [
            record(0, Direction::In, "INVITE sip:a@b SIP/2.0", "1 INVITE"),
            record(1, Direction::Out, "SIP/2.0 302 Moved Temporarily", "1 INVITE"),
            record(3, Direction::In, "ACK sip:a@b SIP/2.0", "1 ACK"),
        ];
        let backend = [
            record(2, Direction::In, "INVITE sip:a@c;key=secret SIP/2.0", "2 INVITE"),
            record(4, Direction::Out, "SIP/2.0 200 OK", "2 INVITE"),
        ];
        let ends = [Traced { name: "proxy", records: &proxy }, Traced { name: "backend", records: &backend }];
        assert_eq!(
            draw_several("phone", &ends, "c1", Style { width: 24, ..Style::default() }),
            "      ms  phone                  proxy                  backend\n       \
             0  |- INVITE sip:a@b ---->|                      |\n       \
             1  |<-- 302 Mo… (INVITE) -|                      |\n       \
             2  |- INVITE sip:a@c;… ------------------------->|\n       \
             3  |- ACK sip:a@b ------->|                      |\n       \
             4  |<-------------------------- 200 OK (INVITE) -|\n"
        );
    }

    #[test]
    fn each_peer_of_a_relay_has_its_rail() {
        let of = |peer, what| between("192.0.2.1", peer, what);
        let (caller, callee, other) = ("198.51.100.1", "203.0.113.2", "203.0.113.3");
        let records = [
            of(caller, (0, Direction::In, "INVITE sip:a@b SIP/2.0", "1 INVITE")),
            of(callee, (1, Direction::Out, "INVITE sip:a@c SIP/2.0", "1 INVITE")),
            of(callee, (2, Direction::Out, "INVITE sip:a@c SIP/2.0", "1 INVITE")),
            of(callee, (3, Direction::In, "SIP/2.0 180 Ringing", "1 INVITE")),
            of(caller, (4, Direction::Out, "SIP/2.0 180 Ringing", "1 INVITE")),
            of(other, (5, Direction::Out, "BYE sip:a@d SIP/2.0", "2 BYE")),
            of(other, (6, Direction::In, "SIP/2.0 200 OK", "2 BYE")),
        ];
        assert_eq!(
            draw(&records, "c1", Style { width: 32, ..Style::default() }),
            "      ms  198.51.100.1:5060              192.0.2.1:5060                 203.0.113.2:5060               203.0.113.3:5060\n       \
             0  |- INVITE sip:a@b ------------>|                              |                              |\n       \
             1  |                              |- INVITE sip:a@c ------------>|                              |\n       \
             2  |                              |- INVITE sip:a@c (again) ---->|                              |\n       \
             3  |                              |<------ 180 Ringing (INVITE) -|                              |\n       \
             4  |<------ 180 Ringing (INVITE) -|                              |                              |\n       \
             5  |                              |- BYE sip:a@d ---------------------------------------------->|\n       \
             6  |                              |<--------------------------------------------- 200 OK (BYE) -|\n"
        );
    }

    #[test]
    fn peers_beyond_the_sixth_share_a_rail() {
        let records: Vec<_> = (1..=9)
            .map(|host| {
                let what = (host, Direction::Out, "OPTIONS sip:a@b SIP/2.0", "1 OPTIONS");
                between("192.0.2.1", &format!("198.51.100.{host}"), what)
            })
            .collect();
        let drawn = draw(&records, "c1", Style { width: 24, ..Style::default() });
        assert!(drawn.lines().next().unwrap().ends_with("198.51.100.5:5060      4 others"), "{drawn}");
        assert!(drawn.lines().skip(6).all(|line| line.ends_with("--->|")), "{drawn}");
        assert_eq!(drawn.lines().count(), 10);
    }

    #[test]
    fn what_two_traced_ends_say_to_each_other_is_drawn_once() {
        let invite = "INVITE sip:a@c SIP/2.0";
        let proxy = [
            between("192.0.2.1", "192.0.2.7", (0, Direction::In, "INVITE sip:a@b SIP/2.0", "1 INVITE")),
            between("192.0.2.1", "192.0.2.2", (1, Direction::Out, invite, "1 INVITE")),
        ];
        let backend = [between("192.0.2.2", "192.0.2.1", (2, Direction::In, invite, "1 INVITE"))];
        let ends = [Traced { name: "proxy", records: &proxy }, Traced { name: "backend", records: &backend }];
        assert_eq!(
            draw_several("phone", &ends, "c1", Style { width: 24, ..Style::default() }),
            "      ms  phone                  proxy                  backend\n       \
             0  |- INVITE sip:a@b ---->|                      |\n       \
             1  |                      |- INVITE sip:a@c ---->|\n"
        );
    }

    #[test]
    fn the_method_and_the_mark_stay_where_a_line_is_cut() {
        let moved = record(0, Direction::Out, "SIP/2.0 302 Moved Temporarily", "1 INVITE");
        let drawn = draw(&[moved.clone(), moved], "c1", Style { width: 30, ..Style::default() });
        assert!(drawn.ends_with("|<-- 302 … (INVITE) (again) -|\n"), "{drawn}");
        let narrow = draw(
            &[record(0, Direction::In, "ACK sip:a@b SIP/2.0", "1 ACK")],
            "c1",
            Style { width: 0, ..Style::default() },
        );
        assert!(narrow.ends_with("|- … ->|\n"), "{narrow}");
    }

    #[test]
    fn no_start_line_shows_a_number_a_password_or_a_parameter() {
        for (line, shown) in [
            ("INVITE sip:+1-555-000-1234@h SIP/2.0", "INVITE sip:+x-xxx-xxx-xx34@h"),
            ("INVITE tel:+1.555.000.1234 SIP/2.0", "INVITE tel:+x.xxx.xxx.xx34"),
            ("INVITE sip:alice:hunter2@h?X-Token=secret SIP/2.0", "INVITE sip:alice:…@h?…"),
            ("INVITE sip:alice:hun;ter2@h:5060;t=secret SIP/2.0", "INVITE sip:alice:…@h:5060;…"),
            (
                "INVITE sip:%2B15550001234@[2001:db8::1]:50600 SIP/2.0",
                "INVITE sip:%2Bxxxxxxxxx34@[2001:db8::1]:50600",
            ),
            ("INVITE sip:15550001234 SIP/2.0", "INVITE sip:xxxxxxxxx34"),
            ("INVITE sip:112@192.0.2.100:50600 SIP/2.0", "INVITE sip:112@192.0.2.100:50600"),
            ("INVITE sip:a@b 15550001234 SIP/2.0", "INVITE sip:a@b …"),
            ("SIP/2.0 486 1 555 000 1234 is busy", "486 x xxx xxx xx34 is busy (INVITE)"),
            ("15550001234", "xxxxxxxxx34"),
            ("INVITE sip:a\u{1b}[2J@b SIP/2.0", "INVITE sip:a·[2J@b"),
        ] {
            let drawn = draw(
                &[record(0, Direction::In, line, "1 INVITE")],
                "c1",
                Style { width: 90, ..Style::default() },
            );
            assert!(drawn.contains(&format!("|- {shown} -")), "{line}: {drawn}");
        }
    }

    #[test]
    fn another_call_is_left_out() {
        let records = [record(0, Direction::In, "OPTIONS sip:a@b SIP/2.0", "1 OPTIONS")];
        assert!(draw(&records, "c2", Style::default()).starts_with("no message"));
    }
}
