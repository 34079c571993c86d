//! What a seed decides: who does what when, in which weather.

use std::time::Duration;

use iqra_sip::Transport;

use crate::network::Weather;
use crate::streams::Cut;

/// What a play is about. Each draws the rest by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call that is answered and hung up by one side.
    Answer,
    /// One that is refused.
    Refuse,
    /// One that the caller gives up.
    Cancel,
    /// Both hang up at about the same time.
    BothHangUp,
    /// One that nobody hears.
    Silence,
    /// One that two phones answer.
    Fork,
    /// One that reaches the same phone by two ways.
    Merge,
    /// Provisional responses are acknowledged.
    Reliable,
    /// The session is changed by UPDATE and INFO from both sides.
    Update,
    /// Re-INVITEs that cross.
    Glare,
    /// The callee transfers the caller.
    Transfer,
    /// A third party takes the caller's place.
    Replace,
    /// A long call that is kept alive.
    Session,
    /// Everything is challenged.
    Challenge,
    /// A registration, by the side of a call.
    Register,
    /// A caller whose ACKs get lost.
    Unacknowledged,
    /// A long call whose path breaks for good.
    Broken,
    /// Through a pool of two proxies, which try two backends.
    Relay,
    /// The callee makes the offer, to the call and to re-INVITEs.
    Delayed,
    /// OPTIONS and MESSAGE, in the call and outside.
    Message,
    /// Over streams that are cut.
    Stream,
    /// Through a proxy whose targets have several hops, some of them silent or busy.
    Hops,
    /// To a callee behind a guard, which many call at once and a scanner too.
    Guarded,
    /// Through strict routers, with a proxy of the pool behind them or not.
    Strict,
}

/// All kinds: seeds take turns.
pub(super) const KINDS: [Kind; 24] = {
    use Kind::*;
    [
        Answer,
        Refuse,
        Cancel,
        BothHangUp,
        Silence,
        Fork,
        Merge,
        Reliable,
        Update,
        Glare,
        Transfer,
        Replace,
        Session,
        Challenge,
        Register,
        Unacknowledged,
        Broken,
        Relay,
        Delayed,
        Message,
        Stream,
        Hops,
        Guarded,
        Strict,
    ]
};

/// Where a hop of a target leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To nobody.
    Silent,
    /// To somebody who answers 503.
    Busy,
    /// To the target.
    There,
}

/// What the program of a called node does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Refuse(u16),
    /// It rings for ever.
    Ring,
    /// It does nothing at all.
    Nothing,
}

/// One play.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) kind: Kind,
    pub(crate) weather: Weather,
    /// What the callee does, and what the third party does.
    pub(crate) verdicts: [Verdict; 2],
    /// From the INVITE to its ringing; `None` does not ring.
    pub(crate) rings: Option<Duration>,
    pub(crate) answers: Duration,
    pub(crate) cancels: Option<Duration>,
    /// From the answer on, for each side that hangs up: the caller, the callee.
    pub(crate) hangs_up: [Option<Duration>; 2],
    /// The callee's Allow lists UPDATE.
    pub(crate) updates: bool,
    /// Provisional responses are acknowledged.
    pub(crate) reliable: bool,
    pub(crate) transport: Transport,
    /// When every connection is cut, and how.
    pub(crate) cuts: Vec<(Duration, Cut)>,
    /// From when to when nobody can be dialled.
    pub(crate) closed: Option<(Duration, Duration)>,
    /// The hops of each target of a relayed call; the target itself for none.
    pub(crate) hops: Vec<Vec<Place>>,
    /// How many strict routers there are, and whether a proxy of ours stands behind them.
    pub(crate) strict: (usize, bool),
    /// From an offer in a 2xx to its answer in the ACK; `None` gives none.
    pub(crate) agrees: Option<Duration>,
}

impl Script {
    pub(crate) fn draw(seed: u64) -> Self {
        let random = &mut fastrand::Rng::with_seed(seed);
        let kind = KINDS[usize::try_from(seed).unwrap() % KINDS.len()];
        let mut script = Self {
            kind,
            weather: weather(random),
            verdicts: [Verdict::Accept; 2],
            rings: random.bool().then(|| millis(random, 0..400)),
            answers: millis(random, 0..6_000),
            cancels: None,
            hangs_up: [None; 2],
            updates: random.bool(),
            reliable: kind == Kind::Reliable,
            transport: Transport::Udp,
            cuts: Vec::new(),
            closed: None,
            hops: vec![Vec::new(); 2],
            strict: (0, false),
            agrees: None,
        };
        script.hangs_up[random.usize(0..2)] = Some(millis(random, 0..9_000));
        script.bend(random);
        script
    }

    /// What a kind needs.
    fn bend(&mut self, random: &mut fastrand::Rng) {
        let status = [302, 404, 486, 503, 603][random.usize(0..5)];
        match self.kind {
            Kind::Refuse => self.verdicts = [Verdict::Refuse(status); 2],
            Kind::Cancel => {
                self.cancels = Some(millis(random, 0..7_000));
                self.verdicts[0] = [Verdict::Accept, Verdict::Ring, Verdict::Nothing][random.usize(0..3)];
            }
            Kind::BothHangUp => {
                let at = millis(random, 0..5_000);
                self.hangs_up = [Some(at), Some(at + millis(random, 0..20))];
            }
            Kind::Fork => {
                let second = [Verdict::Accept, Verdict::Accept, Verdict::Ring, Verdict::Refuse(486)];
                self.verdicts[1] = second[random.usize(0..4)];
            }
            Kind::Reliable => {
                self.rings = Some(millis(random, 0..400));
                self.cancels = random.bool().then(|| millis(random, 0..9_000));
            }
            Kind::Relay => {
                for verdict in &mut self.verdicts {
                    *verdict = match random.u8(0..8) {
                        0 => Verdict::Nothing,
                        1 => Verdict::Ring,
                        2 | 3 => Verdict::Refuse(status),
                        _ => Verdict::Accept,
                    };
                }
                self.cancels = (random.u8(0..3) == 0).then(|| millis(random, 0..9_000));
                let at = millis(random, 10..9_000);
                self.hangs_up = [self.hangs_up[0].map(|_| at), self.hangs_up[1].map(|_| at)];
            }
            Kind::Delayed => {
                self.reliable = random.u8(0..3) == 0;
                self.agrees = match random.u8(0..8) {
                    0 => None,
                    1 => Some(millis(random, 20_000..40_000)),
                    2 => Some(Duration::ZERO),
                    _ => Some(millis(random, 0..4_000)),
                };
                self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + millis(random, 0..60_000)));
            }
            Kind::Strict => {
                self.strict = (random.usize(1..3), random.bool());
                // A proxy gives up a target that is silent for long.
                self.rings = Some(millis(random, 0..400));
                self.cancels = (random.u8(0..5) == 0).then(|| millis(random, 0..7_000));
                self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + Duration::from_secs(6)));
            }
            Kind::Hops => {
                // To whoever is busy the call by another target would be a merged one (RFC 3261 §8.2.2.2).
                let busy = random.usize(0..2);
                let places = [Place::Silent, Place::There, Place::Busy];
                let mut draw = |kinds| (0..random.u8(1..5)).map(|_| places[random.usize(0..kinds)]).collect();
                self.hops = vec![draw(2 + busy), draw(3 - busy)];
                // A target that is silent for long is given up.
                self.rings = Some(millis(random, 0..400));
                self.cancels = (random.u8(0..5) == 0).then(|| millis(random, 0..14_000));
            }
            Kind::Stream => self.bend_streams(random),
            Kind::Unacknowledged | Kind::Broken => {
                self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + Duration::from_secs(250)));
            }
            Kind::Session => {
                self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + Duration::from_secs(200)));
            }
            Kind::Update | Kind::Glare | Kind::Transfer | Kind::Replace | Kind::Challenge | Kind::Message => {
                self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + Duration::from_secs(8)));
            }
            Kind::Answer | Kind::Guarded | Kind::Silence | Kind::Merge | Kind::Register => {}
        }
    }

    fn bend_streams(&mut self, random: &mut fastrand::Rng) {
        self.transport = [Transport::Tcp, Transport::Tls, Transport::Ws][random.usize(0..3)];
        self.weather = Weather { loss: 0.0, duplicate: 0.0, ..self.weather };
        let gentle = random.bool();
        self.cuts = (0..random.u8(0..6))
            .map(|_| {
                let cut = if gentle || random.bool() { Cut::Close } else { Cut::Break };
                (millis(random, 0..16_000), cut)
            })
            .collect();
        self.closed = (!gentle && random.bool()).then(|| {
            let from = if random.bool() { Duration::ZERO } else { millis(random, 0..12_000) };
            (from, from + millis(random, 1..5_000))
        });
        self.cancels = (random.u8(0..4) == 0).then(|| millis(random, 0..7_000));
        self.hangs_up = self.hangs_up.map(|at| at.map(|at| at + Duration::from_secs(3)));
    }

    /// True where an offer may wait for its answer until the call is given up.
    pub(crate) fn is_slow_to_agree(&self) -> bool {
        self.kind == Kind::Delayed && self.agrees.is_none_or(|after| after > Duration::from_secs(20))
    }

    /// True where some hop of a relayed call leads to a target.
    pub(crate) fn leads_there(&self) -> bool {
        self.hops.iter().flatten().any(|place| *place == Place::There)
    }

    /// True where a message may be lost that nobody repeats.
    pub(crate) fn loses_what_is_sent_once(&self) -> bool {
        self.kind == Kind::Stream && !self.is_calm()
    }

    /// True where nothing is lost and nothing is late: what is wanted has to succeed.
    pub(crate) fn is_calm(&self) -> bool {
        let whole = self.cuts.iter().all(|(_, cut)| *cut == Cut::Close) && self.closed.is_none();
        // Nobody can dial back to a WebSocket client.
        let safe = whole && (self.cuts.is_empty() || self.transport != Transport::Ws);
        self.weather.loss == 0.0 && safe
    }
}

fn millis(random: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

fn weather(random: &mut fastrand::Rng) -> Weather {
    match random.u8(0..4) {
        0 => Weather { loss: 0.0, duplicate: 0.1, jitter: Duration::from_millis(3) },
        1 => Weather { loss: 0.1, duplicate: 0.1, jitter: Duration::from_millis(200) },
        2 => Weather { loss: 0.2, duplicate: 0.3, jitter: Duration::from_millis(700) },
        _ => Weather { loss: 0.3, duplicate: 0.05, jitter: Duration::from_millis(100) },
    }
}
