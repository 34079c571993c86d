//! The jitter buffer over seeded networks, on a virtual clock: what must hold whatever a network does, and what the
//! adaptation is for (drift, spikes, bursts, pauses).
#![allow(clippy::unwrap_used)] // test helpers

use std::collections::HashSet;
use std::time::{Duration, Instant};

use iqra_media::jitter::{Adjustment, Buffer, Config, Counts, Frame, Pushed};
use iqra_media::rtp::reception::Position;

/// Beat of the listener in microseconds.
const BEAT: u64 = 5_000;
/// What is cut out or put in at once: a period of a voice.
const PERIOD: Duration = Duration::from_millis(8);

/// How a network treats packets.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    loss: f64,
    duplicates: f64,
    /// Even spread of the delay, in microseconds.
    jitter: u64,
    /// Share of packets that begin a spike, and its height; what was sent meanwhile comes after it all at once, as
    /// from a Wi-Fi that was busy.
    stalls: (f64, u64),
    /// Every packet for itself may be so much later: packets overtake one another.
    strays: (f64, u64),
    /// Parts per million by which the sender's clock is fast.
    drift: i64,
    /// Share of packets after which the sender pauses for a second.
    pauses: f64,
}

#[derive(Clone, Copy)]
struct Sent {
    arrival: u64,
    n: u64,
    timestamp: u64,
}

fn sent(weather: Weather, packets: u64, seed: u64) -> Vec<Sent> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut out, mut stalled, mut paused) = (Vec::new(), 0, 0);
    for n in 0..packets {
        let at = (n + paused) * 20_000;
        let at = (at as i64 - at as i64 * weather.drift / 1_000_000) as u64 + 30_000;
        let timestamp = (n + paused) * 160;
        if random.f64() < weather.pauses {
            paused += 50;
        }
        if random.f64() < weather.stalls.0 {
            stalled = at + weather.stalls.1;
        }
        let stray = if random.f64() < weather.strays.0 { weather.strays.1 } else { 0 };
        let arrival = (at + random.u64(0..=weather.jitter) + stray).max(stalled);
        if random.f64() >= weather.loss {
            out.push(Sent { arrival, n, timestamp });
            if random.f64() < weather.duplicates {
                out.push(Sent { arrival: arrival + random.u64(0..100_000), n, timestamp });
            }
        }
    }
    out.sort_by_key(|sent| sent.arrival);
    out
}

/// What a listener saw.
#[derive(Default)]
struct Outcome {
    counts: Counts,
    pushed: u64,
    waiting: u64,
    most_delay: Duration,
    /// Most and least delay in the last half.
    settled: Option<(Duration, Duration)>,
    /// Lost and late in the last half.
    harm_settled: u64,
    target: Duration,
}

fn listen(arrivals: &[Sent], config: Config) -> Outcome {
    let start = Instant::now();
    let at = |micros| start + Duration::from_micros(micros);
    let mut buffer = Buffer::new(config, start);
    let mut outcome = Outcome::default();
    let (mut heard, mut highest) = (HashSet::new(), 0);
    let end = arrivals.last().map_or(0, |last| last.arrival) + 1_000_000;
    let mut pending = arrivals.iter().peekable();
    let mut harm_before = 0;
    for now in (0..end).step_by(BEAT as usize) {
        while let Some(sent) = pending.next_if(|sent| sent.arrival <= now) {
            let position = Position { sequence: 70_000 + sent.n, timestamp: 1_000_000 + sent.timestamp };
            assert_ne!(buffer.push(at(now), position, 160, &sent.n.to_be_bytes()), Pushed::TooLong);
            outcome.pushed += 1;
        }
        let settled = now > end / 2 && !arrivals.is_empty() && now < end - 1_000_000;
        while let Some(frame) = buffer.pop(at(now)) {
            let Frame::Audio { payload, timestamp, .. } = frame else { continue };
            let n = u64::from_be_bytes(payload.try_into().unwrap());
            assert!(heard.insert(n), "packet {n} twice");
            assert!(timestamp > highest, "packet {n} after a later one");
            highest = timestamp;
            outcome.most_delay = outcome.most_delay.max(buffer.delay());
            if settled {
                let (most, least) = outcome.settled.unwrap_or((buffer.delay(), buffer.delay()));
                outcome.settled = Some((most.max(buffer.delay()), least.min(buffer.delay())));
            }
            buffer.adjusted(match buffer.adjustment() {
                Adjustment::Keep => Adjustment::Keep,
                Adjustment::Shorten(_) if n % 8 == 0 => Adjustment::Shorten(PERIOD),
                Adjustment::Lengthen(_) if n % 8 == 0 => Adjustment::Lengthen(PERIOD),
                _ => Adjustment::Keep,
            });
        }
        let counts = buffer.counts();
        let harm = counts.late + counts.lost + counts.dropped;
        if !settled && now <= end / 2 {
            harm_before = harm;
        } else if settled {
            outcome.harm_settled = harm - harm_before;
        }
    }
    outcome.counts = buffer.counts();
    outcome.waiting = buffer.len() as u64;
    outcome.target = buffer.target();
    outcome
}

/// What holds over any network.
fn check(outcome: &Outcome, config: Config) {
    let Counts { played, late, duplicate, overflow, dropped, forgotten, .. } = outcome.counts;
    let told = played + late + duplicate + overflow + dropped + forgotten + outcome.waiting;
    assert_eq!(told, outcome.pushed, "every packet has one fate: {:?}", outcome.counts);
    let bound = config.max + Duration::from_millis(40);
    assert!(outcome.most_delay <= bound, "{:?} of {bound:?}", outcome.most_delay);
}

#[test]
fn nothing_out_of_order_nothing_twice_bounded_delay_and_every_packet_accounted_for() {
    let mild = Weather { jitter: 15_000, loss: 0.01, ..Weather::default() };
    let networks = [
        mild,
        Weather { loss: 0.2, duplicates: 0.1, jitter: 60_000, ..mild },
        Weather { stalls: (0.01, 250_000), ..mild },
        Weather { stalls: (0.002, 1_500_000), duplicates: 0.05, ..mild },
        Weather { strays: (0.05, 90_000), ..mild },
        Weather { strays: (0.2, 400_000), jitter: 100_000, ..mild },
        Weather { pauses: 0.02, jitter: 40_000, ..mild },
        Weather { pauses: 0.05, stalls: (0.01, 400_000), strays: (0.02, 50_000), drift: -20_000, ..mild },
        Weather { drift: 20_000, duplicates: 0.3, ..mild },
    ];
    for weather in networks {
        for seed in 0..40 {
            for max in [60, 200, 500] {
                let config = Config { max: Duration::from_millis(max), ..Config::default() };
                check(&listen(&sent(weather, 400, seed), config), config);
            }
        }
    }
}

#[test]
fn an_hour_of_drift_neither_grows_nor_starves_the_delay() {
    for drift in [200, -200] {
        let weather = Weather { drift, jitter: 6_000, ..Weather::default() };
        let outcome = listen(&sent(weather, 180_000, 1), Config::default());
        check(&outcome, Config::default());
        let (most, least) = outcome.settled.unwrap();
        assert!(
            most <= Duration::from_millis(50) && least >= Duration::from_millis(5),
            "{least:?} to {most:?}"
        );
        let Counts { late, lost, dropped, underruns, stretched, shortened, .. } = outcome.counts;
        assert_eq!((late, dropped), (0, 0), "{drift} ppm");
        assert!(lost <= 4 && underruns <= 1, "the end of the stream only");
        let (more, less) = if drift > 0 { (shortened, stretched) } else { (stretched, shortened) };
        let drifted = Duration::from_millis(720);
        assert!(
            more + Duration::from_millis(30) >= drifted && less <= Duration::from_millis(60),
            "{more:?}, {less:?}"
        );
    }
}

#[test]
fn the_delay_follows_the_network_both_ways() {
    let outcome =
        |jitter| listen(&sent(Weather { jitter, ..Weather::default() }, 6_000, 3), Config::default());
    let (quiet, rough) = (outcome(1_000), outcome(80_000));
    assert_eq!(quiet.target, Duration::from_millis(20));
    assert!((70..=90).contains(&rough.target.as_millis()), "{:?}", rough.target);
    assert!(quiet.settled.unwrap().0 <= Duration::from_millis(35), "{:?}", quiet.settled);
    assert!(rough.harm_settled <= 3_000 * 5 / 100, "{} of 3000", rough.harm_settled);
}

#[test]
fn stalls_that_come_again_are_waited_for() {
    let weather = Weather { stalls: (0.004, 120_000), ..Weather::default() };
    let outcome = listen(&sent(weather, 9_000, 5), Config::default());
    check(&outcome, Config::default());
    assert!(outcome.target >= Duration::from_millis(100), "{:?}", outcome.target);
    let stalls = 4_500.0 * 0.004;
    let harm = outcome.harm_settled as f64 / stalls;
    assert!(harm < 2.0, "{harm} packets per stall; six come too late for a delay of 20 ms");
}

#[test]
fn pauses_of_the_sender_bring_the_delay_to_its_target() {
    let weather = Weather { pauses: 0.05, drift: 2_000, jitter: 2_000, ..Weather::default() };
    let outcome = listen(&sent(weather, 5_000, 9), Config::default());
    check(&outcome, Config::default());
    assert!(outcome.settled.unwrap().0 <= Duration::from_millis(50), "{:?}", outcome.settled);
    assert_eq!((outcome.counts.late, outcome.counts.dropped), (0, 0));
}
