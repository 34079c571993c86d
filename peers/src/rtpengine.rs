//! rtpengine 10.5.3 between two sides: it relays RTP and RTCP, takes SRTP off and puts it on, and transcodes. It is told
//! by its "ng" protocol: a cookie, a space and a bencoded dictionary in a datagram, and the same back.
//!
//! It runs without its kernel module (`--table=-1`), so all of it is in its process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::ports;
use crate::program::{Launch, Program};
use crate::wait;

/// The Debian package.
const PACKAGE: &str = "rtpengine-daemon";

/// How long it may take to come up, and to answer.
const PROMPT: Duration = Duration::from_secs(15);

/// How often a question is put again: it may not listen yet, and UDP loses.
const AGAIN: Duration = Duration::from_millis(500);

/// Ports for media: two calls of two sides, RTP and RTCP.
const PORTS: u16 = 16;

/// What bencoding can say, as far as it is needed here.
#[derive(Clone, Debug)]
pub enum Value {
    /// Octets.
    Text(String),
    /// Several.
    List(Vec<Value>),
    /// By name.
    Dict(BTreeMap<String, Value>),
}

impl Value {
    /// A list of words.
    pub fn words(words: &[&str]) -> Self {
        Self::List(words.iter().map(|&word| word.into()).collect())
    }

    /// A dictionary.
    pub fn dict(entries: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        Self::Dict(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn write(&self, out: &mut String) {
        let text = |out: &mut String, text: &str| *out += &format!("{}:{text}", text.len());
        match self {
            Self::Text(value) => text(out, value),
            Self::List(values) => {
                out.push('l');
                values.iter().for_each(|value| value.write(out));
                out.push('e');
            }
            Self::Dict(entries) => {
                out.push('d');
                for (name, value) in entries {
                    text(out, name);
                    value.write(out);
                }
                out.push('e');
            }
        }
    }

    /// Reads one value off the front; a number becomes its digits.
    fn read(rest: &mut &str) -> Option<Self> {
        match rest.as_bytes().first()? {
            b'l' => Self::read_until_end(rest).map(Self::List),
            b'd' => {
                let all = Self::read_until_end(rest)?;
                let entry = |pair: &[Self]| Some((pair.first()?.text()?.to_owned(), pair.get(1)?.clone()));
                all.chunks(2).map(entry).collect::<Option<_>>().map(Self::Dict)
            }
            b'i' => {
                let (digits, after) = rest[1..].split_once('e')?;
                *rest = after;
                Some(Self::Text(digits.to_owned()))
            }
            _ => {
                let (length, after) = rest.split_once(':')?;
                let (text, after) = after.split_at_checked(length.parse().ok()?)?;
                *rest = after;
                Some(Self::Text(text.to_owned()))
            }
        }
    }

    fn read_until_end(rest: &mut &str) -> Option<Vec<Self>> {
        *rest = &rest[1..];
        let mut values = Vec::new();
        while !rest.starts_with('e') {
            values.push(Self::read(rest)?);
        }
        *rest = &rest[1..];
        Some(values)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A running rtpengine.
#[derive(Debug)]
pub struct Rtpengine {
    program: Program,
    socket: UdpSocket,
    asked: u32,
}

impl Rtpengine {
    /// Starts it.
    ///
    /// # Panics
    /// When it is not installed or does not come up.
    pub fn start() -> Self {
        let (control, media) = (ports::free(2), ports::free(PORTS));
        let words = [
            "--config-file=none".to_owned(),
            "--foreground".to_owned(),
            "--log-stderr".to_owned(),
            "--log-level=6".to_owned(),
            "--table=-1".to_owned(),
            "--num-threads=2".to_owned(),
            "--interface=127.0.0.1".to_owned(),
            format!("--listen-ng=127.0.0.1:{control}"),
            format!("--port-min={media}"),
            format!("--port-max={}", media + PORTS - 1),
        ];
        let program = Launch::new("rtpengine", PACKAGE).args(words).start();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        wait::until("the control port of rtpengine", PROMPT, || ports::is_taken(control).then_some(()));
        socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, control))).expect("loopback");
        socket.set_read_timeout(Some(AGAIN)).expect("not zero");
        let mut engine = Self { program, socket, asked: 0 };
        engine.ask("ping", []);
        engine
    }

    /// The offer of one side as the other is to get it, with what is to become of its media.
    ///
    /// # Panics
    /// When it makes none of it.
    pub fn offer(&mut self, sdp: &str, further: Vec<(&'static str, Value)>) -> String {
        self.describe("offer", vec![("sdp", sdp.into()), ("from-tag", "a".into())], further)
    }

    /// The answer of the other side as the one that offered is to get it.
    ///
    /// # Panics
    /// When it makes none of it.
    pub fn answer(&mut self, sdp: &str, further: Vec<(&'static str, Value)>) -> String {
        let own = vec![("sdp", sdp.into()), ("from-tag", "a".into()), ("to-tag", "b".into())];
        self.describe("answer", own, further)
    }

    fn describe(
        &mut self,
        command: &'static str,
        own: Vec<(&'static str, Value)>,
        further: Vec<(&'static str, Value)>,
    ) -> String {
        let usual =
            [("call-id", "call".into()), ("ICE", "remove".into()), ("replace", Value::words(&["origin"]))];
        let reply = self.ask(command, usual.into_iter().chain(own).chain(further));
        reply.get("sdp").and_then(Value::text).expect("a session description").to_owned()
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(self) {
        self.program.terminate(PROMPT);
    }

    fn ask(
        &mut self,
        command: &'static str,
        further: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> BTreeMap<String, Value> {
        self.asked += 1;
        let cookie = format!("{} ", self.asked);
        let mut question = cookie.clone();
        Value::dict(further.into_iter().chain([("command", command.into())])).write(&mut question);
        let reply = self.reply(&question, &cookie);
        let Some(Value::Dict(reply)) = Value::read(&mut &reply[cookie.len()..]) else { panic!("{reply}") };
        let result = reply.get("result").and_then(Value::text);
        assert!(matches!(result, Some("ok" | "pong")), "{question}: {reply:?}\n{}", self.program.text());
        reply
    }

    fn reply(&self, question: &str, cookie: &str) -> String {
        let deadline = Instant::now() + PROMPT;
        let mut bytes = vec![0; 65_536];
        while Instant::now() < deadline {
            // ICMP from a port not yet open is a lost datagram.
            let _ = self.socket.send(question.as_bytes());
            while let Ok(length) = self.socket.recv(&mut bytes) {
                if bytes[..length].starts_with(cookie.as_bytes()) {
                    return String::from_utf8_lossy(&bytes[..length]).into_owned();
                }
            }
        }
        panic!("rtpengine does not answer {question}\n{}", self.program.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let codec = Value::dict([("transcode", Value::words(&["PCMU"]))]);
        let mut text = String::new();
        Value::dict([("codec", codec), ("ICE", "remove".into())]).write(&mut text);
        assert_eq!(text, "d3:ICE6:remove5:codecd9:transcodel4:PCMUeee");
        let Some(Value::Dict(read)) = Value::read(&mut text.as_str()) else { panic!("{text}") };
        assert_eq!(read["ICE"].text(), Some("remove"));
        assert!(Value::read(&mut "d3:ICE").is_none() && Value::read(&mut "").is_none());
    }
}
