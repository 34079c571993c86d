//! A ladder of one call: who sent what when, between two or more rails. In: trace records. Out: text.

use std::fmt::Write;
use std::time::Duration;

use super::{Direction, TraceRecord};
use crate::message::HeaderName;

/// How a ladder is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Replaces the digits of phone numbers in start lines, all but the last two, and leaves out the parameters of
    /// URIs, which may be tokens. Default true.
    pub redact: bool,
    /// Characters from one rail to the next, 8 or more. Default 56.
    pub width: usize,
}

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

/// Draws the messages of one Call-ID, times in milliseconds from the first of them. Retransmissions are marked.
#[must_use]
pub fn draw(records: &[TraceRecord], call_id: &str, style: Style) -> String {
    let first = records.iter().find(|record| call_id_of(record).as_deref() == Some(call_id));
    let ends = first.map(|record| (record.flow.remote.to_string(), record.flow.local.to_string()));
    let (peer, name) = ends.unwrap_or_default();
    draw_several(&peer, &[Traced { name: &name, records }], call_id, style)
}

/// The same for one peer that talks to several endpoints, such as a phone that a proxy sends on to a backend: its rail
/// stands on the left, theirs beside it in the given order, and all messages come in the order of their time.
#[must_use]
pub fn draw_several(peer: &str, ends: &[Traced<'_>], call_id: &str, style: Style) -> String {
    let mut rungs = rungs(ends, call_id);
    rungs.sort_by_key(|rung| rung.record.at);
    let Some(first) = rungs.first() else {
        return format!("no message of Call-ID {call_id} was traced\n");
    };
    let began = first.record.at;
    let mut text = heading(peer, ends, style);
    for rung in &rungs {
        let since = rung.record.at.duration_since(began).unwrap_or(Duration::ZERO);
        let _ = writeln!(text, "{:>8}  {}", since.as_millis(), line(rung, ends.len(), style));
    }
    text
}

/// Each name begins where its rail stands.
fn heading(peer: &str, ends: &[Traced<'_>], style: Style) -> String {
    let mut names = peer.to_owned();
    for (index, end) in ends.iter().enumerate() {
        let blank = column(index + 1, style).saturating_sub(names.chars().count()).max(1);
        names.extend(std::iter::repeat_n(' ', blank));
        names.push_str(end.name);
    }
    format!("{:>8}  {names}\n", "ms")
}

/// A message between the peer's rail and the `end`th one.
struct Rung<'a> {
    end: usize,
    record: &'a TraceRecord,
    repeated: bool,
}

fn rungs<'a>(ends: &[Traced<'a>], call_id: &str) -> Vec<Rung<'a>> {
    let mut rungs: Vec<Rung<'a>> = Vec::new();
    for (index, traced) in ends.iter().enumerate() {
        for record in traced.records.iter().filter(|record| call_id_of(record).as_deref() == Some(call_id)) {
            let end = index + 1;
            let repeated =
                rungs.iter().any(|earlier| earlier.end == end && same_message(earlier.record, record));
            rungs.push(Rung { end, record, repeated });
        }
    }
    rungs
}

fn same_message(one: &TraceRecord, other: &TraceRecord) -> bool {
    one.direction == other.direction && one.bytes == other.bytes
}

/// Where a rail stands.
fn column(rail: usize, style: Style) -> usize {
    rail * (style.width.max(8) - 1)
}

/// The rails with one arrow between the first and the rung's.
fn line(rung: &Rung<'_>, ends: usize, style: Style) -> String {
    let inside = column(rung.end, style) - 1;
    let mark = if rung.repeated { " (again)" } else { "" };
    let mut label = format!(" {}{mark} ", start_line(rung.record, style));
    let room = inside - 4;
    if label.chars().count() > room {
        label = label.chars().take(room - 2).chain("… ".chars()).collect();
    }
    let dashes = "-".repeat(inside - 2 - label.chars().count());
    let arrow = match rung.record.direction {
        Direction::In => format!("|-{label}{dashes}>|"),
        Direction::Out => format!("|<{dashes}{label}-|"),
    };
    let gap = format!("{:gap$}|", "", gap = column(1, style) - 1);
    arrow + &gap.repeat(ends - rung.end)
}

fn start_line(record: &TraceRecord, style: Style) -> String {
    let line =
        record.bytes.split(|&b| b == b'\r' || b == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let request = line.strip_suffix(" SIP/2.0");
    let shown = request.unwrap_or_else(|| line.strip_prefix("SIP/2.0 ").unwrap_or(&line));
    let shown = match (request.is_none(), method_of(record)) {
        (true, Some(method)) => format!("{shown} ({method})"),
        _ => shown.to_owned(),
    };
    if style.redact { redact_numbers(&without_parameters(&shown)) } else { shown }
}

fn without_parameters(shown: &str) -> String {
    shown.split_once(';').map_or_else(|| shown.to_owned(), |(uri, _)| format!("{uri};…"))
}

/// Runs of seven digits or more are phone numbers; all but the last two digits become `x`.
fn redact_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let run = rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
        out.push_str(&rest[..start]);
        let digits = &rest[start..start + run];
        if run >= 7 {
            out.push_str(&"x".repeat(run - 2));
            out.push_str(&digits[run - 2..]);
        } else {
            out.push_str(digits);
        }
        rest = &rest[start + run..];
    }
    out + rest
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
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.7:5060".parse().unwrap(),
            connection: None,
        };
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
             1  |<-- 302 Moved Tempo… -|                      |\n       \
             2  |- INVITE sip:a@c;… ------------------------->|\n       \
             3  |- ACK sip:a@b ------->|                      |\n       \
             4  |<-------------------------- 200 OK (INVITE) -|\n"
        );
    }

    #[test]
    fn another_call_is_left_out() {
        let records = [record(0, Direction::In, "OPTIONS sip:a@b SIP/2.0", "1 OPTIONS")];
        assert!(draw(&records, "c2", Style::default()).starts_with("no message"));
    }
}
