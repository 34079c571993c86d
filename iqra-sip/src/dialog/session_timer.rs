//! Session timers: what the two sides agree on and when it falls due (RFC 4028).
//!
//! In come the headers of INVITE, UPDATE and their 2xx; out come the terms that hold, what is to be said in return, and
//! the two moments at which the engine acts. Pure values; [`crate::engine`] keeps the clocks.

use std::time::Duration;

use crate::message::header::{MinSe, Refresher, Require, SessionExpires, Supported};
use crate::message::{HeaderName, Headers, Params};

/// The option tag (RFC 4028 §3).
pub(crate) const TAG: &str = "timer";
/// The smallest Min-SE there is, and what counts where none is sent (RFC 4028 §5).
const FLOOR: u32 = 90;
/// The longest interval that is asked for because a peer wants it: a day. More watches over nothing.
const LONGEST: u32 = 86_400;
/// A BYE leaves this long before the end, or a third of the interval where that is less (RFC 4028 §10).
const MARGIN: Duration = Duration::from_secs(32);

/// How an engine takes part in session timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTimers {
    /// Whether it does. Default [`SessionTimerMode::Accept`].
    pub mode: SessionTimerMode,
    /// The interval to ask for, and the longest to grant where the peer's Min-SE allows it, in whole seconds of 90
    /// or more. Default 30 minutes.
    pub interval: Duration,
    /// The shortest interval to take, 90 s or more; a request for less is answered 422 (RFC 4028 §9). Default 90 s.
    pub minimum: Duration,
    /// Who refreshes where the choice is ours. Default [`Side::Peer`], which costs us nothing.
    pub refresher: Side,
}

/// Whether session timers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTimerMode {
    /// No: their headers mean nothing, and a request that requires `timer` is answered 420.
    Off,
    /// Where the peer asks for them.
    Accept,
    /// Our calls ask for them, and so do our answers to peers that know them.
    Request,
}

/// One of the two ends of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Us,
    /// The other.
    Peer,
}

impl Default for SessionTimers {
    fn default() -> Self {
        Self {
            mode: SessionTimerMode::Accept,
            interval: Duration::from_secs(1_800),
            minimum: Duration::from_secs(90),
            refresher: Side::Peer,
        }
    }
}

/// What holds for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The session interval in seconds.
    pub(crate) seconds: u32,
    /// Who refreshes.
    pub(crate) refresher: Side,
}

/// What a request of the peer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No session timer.
    Without,
    /// These terms go into the 2xx; `require` where the peer has to know the extension.
    Granted { terms: Terms, require: bool },
    /// 422 with our minimum in Min-SE.
    TooShort,
}

impl Terms {
    /// When the refresher acts: at half of the interval (RFC 4028 §7.4).
    pub(crate) fn refresh_after(self) -> Duration {
        Duration::from_secs(u64::from(self.seconds)) / 2
    }

    /// When a session without a refresh is given up (RFC 4028 §10).
    pub(crate) fn give_up_after(self) -> Duration {
        let interval = Duration::from_secs(u64::from(self.seconds));
        interval - MARGIN.min(interval / 3)
    }
}

impl SessionTimers {
    pub(crate) fn is_on(&self) -> bool {
        self.mode != SessionTimerMode::Off
    }

    fn minimum(&self) -> u32 {
        seconds(self.minimum).max(FLOOR)
    }

    fn interval(&self) -> u32 {
        seconds(self.interval).max(self.minimum())
    }

    /// What an INVITE or UPDATE of the peer leads to (RFC 4028 §9, table 2).
    pub(crate) fn judge(&self, request: &Headers) -> Verdict {
        let knows = knows_timer(request);
        let asked: Option<SessionExpires> = request.typed().ok();
        let seconds = match (&asked, self.mode) {
            (_, SessionTimerMode::Off) | (None, SessionTimerMode::Accept) => return Verdict::Without,
            (Some(asked), _) if asked.seconds < self.minimum() && knows => return Verdict::TooShort,
            // A proxy put it in; without `timer` the caller would not understand a 422.
            (Some(asked), _) if asked.seconds < FLOOR => return Verdict::Without,
            (Some(asked), _) => asked.seconds.min(self.interval().max(min_se(request))),
            (None, SessionTimerMode::Request) => self.interval().max(min_se(request)),
        };
        let refresher = match asked.and_then(|asked| asked.refresher()) {
            _ if !knows => Side::Us,
            Some(Refresher::Uac) => Side::Peer,
            Some(Refresher::Uas) => Side::Us,
            None => self.refresher,
        };
        Verdict::Granted { terms: Terms { seconds, refresher }, require: knows }
    }

    /// Words a request of ours that makes or refreshes a session: the running terms with their roles, else our wish.
    /// `floor` is the largest Min-SE heard so far (RFC 4028 §7.1, §7.3, §7.4).
    pub(crate) fn ask(&self, headers: &mut Headers, running: Option<Terms>, floor: u32) {
        if !self.is_on() || headers.contains(HeaderName::SESSION_EXPIRES) {
            return;
        }
        let wish = self.mode == SessionTimerMode::Request;
        let asked = match running {
            Some(terms) => Some((terms.seconds, Some(terms.refresher))),
            None if wish || floor > 0 => Some((self.interval(), None)),
            None => None,
        };
        let floor = floor.max(self.minimum());
        if let Some((seconds, refresher)) = asked {
            let params = match refresher {
                Some(Side::Us) => Params::EMPTY.with("refresher", Some("uac")),
                Some(Side::Peer) => Params::EMPTY.with("refresher", Some("uas")),
                None => Params::EMPTY,
            };
            headers.push_typed(&SessionExpires { seconds: seconds.max(floor), params });
        }
        if floor > FLOOR && !headers.contains(HeaderName::MIN_SE) {
            headers.push_typed(&MinSe::new(floor));
        }
    }

    /// What a 2xx to a request of ours grants (RFC 4028 §7.2). Without Session-Expires there is no session timer;
    /// without `refresher`, which the RFC wants there, it is us.
    pub(crate) fn granted(&self, response: &Headers) -> Option<Terms> {
        if !self.is_on() {
            return None;
        }
        let granted: SessionExpires = response.typed().ok()?;
        let refresher = match granted.refresher() {
            Some(Refresher::Uas) => Side::Peer,
            Some(Refresher::Uac) | None => Side::Us,
        };
        Some(Terms { seconds: granted.seconds.max(FLOOR), refresher })
    }

    /// Words the 422 (RFC 4028 §6).
    pub(crate) fn refuse(&self, headers: &mut Headers) {
        headers.push_typed(&MinSe::new(self.minimum()));
    }
}

/// Writes granted terms into a 2xx of ours (RFC 4028 §9).
pub(crate) fn grant(headers: &mut Headers, terms: Terms, require: bool) {
    let refresher = match terms.refresher {
        Side::Us => "uas",
        Side::Peer => "uac",
    };
    let params = Params::EMPTY.with("refresher", Some(refresher));
    headers.set_typed(&SessionExpires { seconds: terms.seconds, params });
    let required = headers.typed_all::<Require>().flatten().any(|require| require.contains(TAG));
    if require && !required {
        headers.push(HeaderName::REQUIRE, TAG);
    }
}

/// The Min-SE of a 422 that a repeat may satisfy: larger than what was asked before (RFC 4028 §7.3), and no more than a
/// day.
pub(crate) fn raised(refusal: &Headers, asked: u32) -> Option<u32> {
    let MinSe { seconds: minimum, .. } = refusal.typed().ok()?;
    (minimum > asked && minimum <= LONGEST).then_some(minimum)
}

fn min_se(request: &Headers) -> u32 {
    request.typed::<MinSe>().map_or(FLOOR, |min| min.seconds.max(FLOOR))
}

/// A peer that requires the extension knows it, too.
fn knows_timer(request: &Headers) -> bool {
    request.typed_all::<Supported>().flatten().any(|supported| supported.contains(TAG))
        || request.typed_all::<Require>().flatten().any(|require| require.contains(TAG))
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        lines.iter().for_each(|(name, value)| headers.push(*name, *value));
        headers
    }

    fn request() -> SessionTimers {
        SessionTimers { mode: SessionTimerMode::Request, ..SessionTimers::default() }
    }

    fn granted(seconds: u32, refresher: Side, require: bool) -> Verdict {
        Verdict::Granted { terms: Terms { seconds, refresher }, require }
    }

    #[test]
    fn who_refreshes_follows_the_table_of_section_9() {
        let us = SessionTimers { refresher: Side::Us, ..SessionTimers::default() };
        let timer = ("Supported", "100rel, timer");
        for (timers, asked, verdict) in [
            (&us, vec![("Session-Expires", "1800")], granted(1800, Side::Us, false)),
            (&us, vec![timer, ("Session-Expires", "1800")], granted(1800, Side::Us, true)),
            (&us, vec![timer, ("x", "1800;refresher=uac")], granted(1800, Side::Peer, true)),
            (&us, vec![timer, ("x", "1800;refresher=UAS")], granted(1800, Side::Us, true)),
            (&SessionTimers::default(), vec![timer, ("x", "1800")], granted(1800, Side::Peer, true)),
            (&SessionTimers::default(), vec![("x", "600")], granted(600, Side::Us, false)),
            (&SessionTimers::default(), vec![timer], Verdict::Without),
            (&request(), vec![timer], granted(1800, Side::Peer, true)),
            (&request(), vec![], granted(1800, Side::Us, false)),
        ] {
            assert_eq!(timers.judge(&headers(&asked)), verdict, "{asked:?}");
        }
    }

    #[test]
    fn an_interval_is_lowered_to_ours_but_never_below_min_se() {
        let timers = SessionTimers::default();
        let judged = |se, min| timers.judge(&headers(&[("Supported", "timer"), ("x", se), ("Min-SE", min)]));
        assert_eq!(judged("7200", "90"), granted(1800, Side::Peer, true));
        assert_eq!(judged("7200", "3600"), granted(3600, Side::Peer, true));
        assert_eq!(judged("600", "90"), granted(600, Side::Peer, true), "never raised");
    }

    #[test]
    fn too_short_an_interval_is_refused_only_to_who_understands() {
        let timers = SessionTimers { minimum: Duration::from_secs(300), ..SessionTimers::default() };
        let short = headers(&[("Supported", "timer"), ("Session-Expires", "299")]);
        assert_eq!(timers.judge(&short), Verdict::TooShort);
        assert_eq!(timers.judge(&headers(&[("Session-Expires", "299")])), granted(299, Side::Us, false));
        assert_eq!(timers.judge(&headers(&[("Session-Expires", "30")])), Verdict::Without);
        let mut refusal = Headers::new();
        timers.refuse(&mut refusal);
        assert_eq!(raised(&refusal, 90), Some(300));
        assert_eq!(raised(&refusal, 300), None, "the peer asks for what it got");
    }

    #[test]
    fn a_request_of_ours_says_what_runs_and_keeps_the_roles() {
        let said = |timers: &SessionTimers, running, floor| {
            let mut headers = Headers::new();
            timers.ask(&mut headers, running, floor);
            headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(" | ")
        };
        let running = |refresher| Some(Terms { seconds: 600, refresher });
        assert_eq!(said(&SessionTimers::default(), None, 0), "");
        assert_eq!(said(&request(), None, 0), "Session-Expires: 1800");
        assert_eq!(said(&request(), None, 3600), "Session-Expires: 3600 | Min-SE: 3600");
        let us = said(&SessionTimers::default(), running(Side::Us), 0);
        assert_eq!(us, "Session-Expires: 600;refresher=uac");
        let peer = said(&SessionTimers::default(), running(Side::Peer), 0);
        assert_eq!(peer, "Session-Expires: 600;refresher=uas");
    }

    #[test]
    fn a_2xx_of_the_peer_grants_what_it_says_and_we_are_the_default_refresher() {
        let timers = SessionTimers::default();
        let terms = |value| timers.granted(&headers(&[("Session-Expires", value)]));
        assert_eq!(terms("600;refresher=uas"), Some(Terms { seconds: 600, refresher: Side::Peer }));
        assert_eq!(terms("600"), Some(Terms { seconds: 600, refresher: Side::Us }));
        assert_eq!(terms("5"), Some(Terms { seconds: 90, refresher: Side::Us }), "none is below 90 s");
        assert_eq!(timers.granted(&Headers::new()), None);
    }

    #[test]
    fn a_silent_session_is_given_up_32_s_or_a_third_before_its_end() {
        let after = |seconds| {
            let terms = Terms { seconds, refresher: Side::Us };
            (terms.refresh_after().as_secs(), terms.give_up_after().as_secs())
        };
        assert_eq!(after(1800), (900, 1768));
        assert_eq!(after(90), (45, 60));
    }

    #[test]
    fn granting_says_who_refreshes_and_requires_the_extension_once() {
        let mut said = headers(&[("Require", "timer")]);
        grant(&mut said, Terms { seconds: 600, refresher: Side::Peer }, true);
        assert_eq!(said.get("Session-Expires").unwrap(), "600;refresher=uac");
        assert_eq!(said.all("Require").count(), 1);
    }
}
