//! A ladder of one call: who sent what when, between two rails. In: trace records. Out: text.

use std::fmt::Write;
use std::time::Duration;

use super::{Direction, TraceRecord};
use crate::message::HeaderName;

/// How a ladder is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Replaces the digits of phone numbers in start lines, all but the last two. Default true.
    pub redact_numbers: bool,
    /// Characters between the rails. Default 56.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { redact_numbers: true, width: 56 }
    }
}

/// Draws the messages of one Call-ID, times in milliseconds from the first of them. Retransmissions are marked.
#[must_use]
pub fn draw(records: &[TraceRecord], call_id: &str, style: Style) -> String {
    let of_call: Vec<_> =
        records.iter().filter(|record| call_id_of(record).as_deref() == Some(call_id)).collect();
    let Some(first) = of_call.first() else {
        return format!("no message of Call-ID {call_id} was traced\n");
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:>8}  {:<width$}  {}",
        "ms",
        first.flow.remote,
        first.flow.local,
        width = style.width
    );
    for (index, record) in of_call.iter().enumerate() {
        let repeated = of_call[..index].iter().any(|earlier| same_message(earlier, record));
        let since = record.at.duration_since(first.at).unwrap_or(Duration::ZERO);
        let _ = writeln!(text, "{:>8}  {}", since.as_millis(), rung(record, repeated, style));
    }
    text
}

fn same_message(one: &TraceRecord, other: &TraceRecord) -> bool {
    one.direction == other.direction && one.bytes == other.bytes
}

/// The peer stands on the left, we on the right.
fn rung(record: &TraceRecord, repeated: bool, style: Style) -> String {
    let mark = if repeated { " (again)" } else { "" };
    let mut label = format!(" {}{mark} ", start_line(record, style));
    let room = style.width.saturating_sub(6);
    if label.chars().count() > room {
        label = label.chars().take(room.saturating_sub(2)).chain("… ".chars()).collect();
    }
    let dashes = "-".repeat(style.width.saturating_sub(4 + label.chars().count()));
    match record.direction {
        Direction::In => format!("|-{label}{dashes}>|"),
        Direction::Out => format!("|<{dashes}{label}-|"),
    }
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
    if style.redact_numbers { redact_numbers(&shown) } else { shown }
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
            "      ms  192.0.2.7:5060                                            192.0.2.1:5060\n       \
             0  |- INVITE sip:+xxxxxxxxx34@192.0.2.1 ----------------->|\n       \
             2  |<----------------------------------- 200 OK (INVITE) -|\n     \
             502  |<--------------------------- 200 OK (INVITE) (again) -|\n"
        );
    }

    #[test]
    fn another_call_is_left_out() {
        let records = [record(0, Direction::In, "OPTIONS sip:a@b SIP/2.0", "1 OPTIONS")];
        assert!(draw(&records, "c2", Style::default()).starts_with("no message"));
    }
}
