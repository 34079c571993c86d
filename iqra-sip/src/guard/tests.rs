//! The guard's verdicts on a clock of their own.

use super::*;

const INVITE: &[u8] = b"INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n";
const BYE: &[u8] = b"BYE sip:a@b SIP/2.0\r\nTo: <sip:a@b>;tag=1\r\n\r\n";
const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\nTo: <sip:a@b>;tag=1\r\n\r\n";
const SCAN: &[u8] = b"OPTIONS sip:100@b SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n";
const IDLE: Load = Load { waiting: 0, queued: 0, stalled: Duration::ZERO, behind: Duration::ZERO, fill: 0 };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn udp(text: &str) -> Sender {
    Sender { ip: ip(text), forgeable: true }
}

fn tcp(text: &str) -> Sender {
    Sender { ip: ip(text), forgeable: false }
}

fn networks(list: &[&str]) -> Networks {
    list.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

fn tight() -> GuardConfig {
    let rate = Rate { per_second: 1, burst: 2 };
    GuardConfig { new_requests: rate, in_dialog: rate, responses: rate, ..GuardConfig::default() }
}

#[test]
fn each_kind_of_message_has_a_bucket_of_its_own_for_each_source() {
    let (mut guard, now) = (Guard::new(tight()), Instant::now());
    let kinds =
        [(INVITE, DropReason::RateNew), (BYE, DropReason::RateDialog), (ANSWER, DropReason::RateResponse)];
    for (message, reason) in kinds {
        let verdicts = [(); 3].map(|()| guard.judge(now, udp("192.0.2.1"), message, &IDLE));
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Drop(reason)]);
    }
    assert_eq!(guard.judge(now, udp("192.0.2.2"), INVITE, &IDLE), Verdict::Pass, "an honest neighbour");
    assert_eq!(guard.judge(now + Duration::from_secs(1), udp("192.0.2.1"), INVITE, &IDLE), Verdict::Pass);
}

#[test]
fn ipv6_sources_are_networks_and_ipv4_ones_addresses() {
    let (mut guard, now) = (Guard::new(tight()), Instant::now());
    let mut pass = |source| guard.judge(now, udp(source), INVITE, &IDLE) == Verdict::Pass;
    assert!(pass("2001:db8::1") && pass("2001:db8::2"));
    assert!(!pass("2001:db8::3"), "the same /64");
    assert!(pass("2001:db8:0:1::1"), "another");
    assert!(
        pass("192.0.2.1") && pass("192.0.2.1") && !pass("::ffff:192.0.2.1"),
        "one address, two spellings"
    );
}

#[test]
fn the_action_of_a_rule_is_carried_out() {
    let now = Instant::now();
    for (action, first, second) in [
        (Action::Drop, Verdict::Drop(DropReason::Scanner), Verdict::Pass),
        (Action::Forbid, Verdict::Forbid(DropReason::Scanner), Verdict::Pass),
        (
            Action::Ban(Duration::from_secs(9)),
            Verdict::Drop(DropReason::Scanner),
            Verdict::Drop(DropReason::Banned),
        ),
    ] {
        let signatures = vec![Signature::new(Part::UserAgent, "Friendly-Scanner", action)];
        let mut guard = Guard::new(GuardConfig { signatures, ..GuardConfig::default() });
        assert_eq!(guard.judge(now, udp("192.0.2.1"), SCAN, &IDLE), first);
        assert_eq!(guard.judge(now, udp("192.0.2.1"), INVITE, &IDLE), second);
        let later = now + Duration::from_secs(9);
        assert_eq!(guard.judge(later, udp("192.0.2.1"), INVITE, &IDLE), Verdict::Pass, "the ban has ended");
    }
}

#[test]
fn offences_add_up_to_a_ban_and_the_allow_list_wins() {
    let now = Instant::now();
    let config = GuardConfig {
        allow: networks(&["198.51.100.0/24"]),
        deny: networks(&["203.0.113.0/24", "198.51.100.7"]),
        offences: Rate { per_second: 1, burst: 3 },
        ..GuardConfig::default()
    };
    let mut guard = Guard::new(config);
    for offence in 1..=4 {
        guard.malformed(now, tcp("192.0.2.1"));
        guard.malformed(now, tcp("198.51.100.7"));
        assert_eq!(guard.is_banned(now, ip("192.0.2.1")), offence == 4);
    }
    assert_eq!(guard.bans(now).count(), 1);
    assert!(guard.is_banned(now, ip("203.0.113.9")), "from the configuration");
    assert_eq!(
        guard.judge(now, udp("198.51.100.7"), SCAN, &IDLE),
        Verdict::Pass,
        "denied, scanning, but allowed"
    );
    guard.ban(now, ip("198.51.100.8"), Duration::from_secs(60));
    assert!(!guard.is_banned(now, ip("198.51.100.8")));
    assert!(!guard.is_banned(now + Duration::from_secs(600), ip("192.0.2.1")), "10 minutes later");
    assert!(guard.unban(ip("192.0.2.1")) && !guard.is_banned(now, ip("192.0.2.1")));
}

#[test]
fn a_peer_knows_neither_rates_nor_bans_and_is_shed_like_anybody() {
    let config = GuardConfig {
        peers: networks(&["198.51.100.1"]),
        offences: Rate { per_second: 1, burst: 1 },
        ..tight()
    };
    let (mut guard, now) = (Guard::new(config), Instant::now());
    for _ in 0..100 {
        guard.malformed(now, tcp("198.51.100.1"));
        assert_eq!(guard.judge(now, udp("198.51.100.1"), INVITE, &IDLE), Verdict::Pass);
    }
    let load = Load { waiting: 5_000, ..IDLE };
    assert_eq!(guard.judge(now, udp("198.51.100.1"), INVITE, &load), Verdict::Shed(2, 10));
    assert_eq!(guard.judge(now, udp("198.51.100.1"), BYE, &load), Verdict::Pass);
}

#[test]
fn new_settings_count_at_once_and_what_was_learnt_stays() {
    let (mut guard, now) = (Guard::new(tight()), Instant::now());
    guard.ban(now, ip("192.0.2.1"), Duration::from_secs(60));
    guard.reload(GuardConfig { deny: networks(&["192.0.2.2"]), ..tight() });
    assert!(guard.is_banned(now, ip("192.0.2.1")) && guard.is_banned(now, ip("192.0.2.2")));
}

#[test]
fn under_load_only_new_requests_of_strangers_are_shed() {
    let config = GuardConfig { allow: networks(&["198.51.100.1"]), ..GuardConfig::default() };
    let (mut guard, now) = (Guard::new(config), Instant::now());
    let load = Load { waiting: 5_000, ..IDLE };
    let emergency = b"INVITE urn:service:sos.fire SIP/2.0\r\nTo: <urn:service:sos>\r\n\r\n";
    let mut judge = |source, message| guard.judge(now, udp(source), message, &load);
    assert_eq!(judge("192.0.2.1", INVITE), Verdict::Shed(2, 10));
    assert_eq!(judge("192.0.2.1", BYE), Verdict::Pass);
    assert_eq!(judge("192.0.2.1", ANSWER), Verdict::Pass);
    assert_eq!(judge("192.0.2.1", emergency), Verdict::Pass);
    assert_eq!(judge("198.51.100.1", INVITE), Verdict::Pass);
    assert!(guard.sheds());
    assert_eq!(guard.judge(now, udp("192.0.2.1"), INVITE, &IDLE), Verdict::Pass);
}

#[test]
fn a_claim_to_a_dialog_that_nothing_bears_out_costs_a_new_request() {
    let (mut guard, now) = (Guard::new(tight()), Instant::now());
    for _ in 0..2 {
        assert_eq!(guard.judge(now, udp("192.0.2.1"), BYE, &IDLE), Verdict::Pass);
        assert_eq!(guard.judge_stray(now, udp("192.0.2.1"), &IDLE), Verdict::Pass);
    }
    assert_eq!(guard.judge(now, udp("192.0.2.1"), INVITE, &IDLE), Verdict::Drop(DropReason::RateNew));
    assert_eq!(guard.judge_stray(now, udp("192.0.2.1"), &IDLE), Verdict::Drop(DropReason::RateNew));
    let load = Load { waiting: 5_000, ..IDLE };
    assert_eq!(guard.judge(now, udp("192.0.2.2"), BYE, &load), Verdict::Pass, "not known yet");
    assert_eq!(guard.judge_stray(now, udp("192.0.2.2"), &load), Verdict::Shed(2, 10));
}

#[test]
fn while_we_are_behind_new_datagrams_are_dropped_and_who_can_be_told_is_told() {
    let config = GuardConfig {
        allow: networks(&["198.51.100.1"]),
        peers: networks(&["198.51.100.2"]),
        ..GuardConfig::default()
    };
    let (mut guard, now) = (Guard::new(config), Instant::now());
    let load = Load { behind: Duration::from_millis(100), ..IDLE };
    let behind = Verdict::Drop(DropReason::Behind);
    assert_eq!(guard.judge(now, udp("192.0.2.1"), INVITE, &load), behind);
    assert_eq!(guard.judge(now, udp("192.0.2.1"), SCAN, &load), behind, "nobody looks for signatures");
    assert_eq!(guard.judge_stray(now, udp("192.0.2.1"), &load), behind);
    assert_eq!(guard.judge(now, tcp("192.0.2.1"), INVITE, &load), Verdict::Shed(2, 10));
    assert_eq!(guard.judge(now, udp("198.51.100.2"), INVITE, &load), Verdict::Shed(2, 10), "a peer");
    assert_eq!(guard.judge(now, udp("198.51.100.1"), INVITE, &load), Verdict::Pass, "allowed");
    for message in [BYE, ANSWER] {
        assert_eq!(guard.judge(now, udp("192.0.2.1"), message, &load), Verdict::Pass);
    }
    assert!(guard.sheds());
    let later = now + Duration::from_secs(1);
    assert_eq!(guard.judge(later, udp("192.0.2.1"), INVITE, &IDLE), Verdict::Pass, "the hold is over");
}

#[test]
fn forged_datagrams_ban_new_datagrams_alone() {
    let (mut guard, now) = (Guard::new(GuardConfig::default()), Instant::now());
    let told = (0..21).map(|_| guard.malformed(now, udp("192.0.2.1"))).filter(|banned| *banned).count();
    assert_eq!(told, 1, "the last one needs no answer");
    let banned = Verdict::Drop(DropReason::Banned);
    assert_eq!(guard.judge(now, udp("192.0.2.1"), INVITE, &IDLE), banned);
    assert_eq!(guard.judge(now, udp("192.0.2.1"), BYE, &IDLE), Verdict::Pass, "if there is such a call");
    assert_eq!(guard.judge_stray(now, udp("192.0.2.1"), &IDLE), banned);
    assert_eq!(guard.judge(now, udp("192.0.2.1"), ANSWER, &IDLE), Verdict::Pass);
    assert_eq!(guard.judge(now, tcp("192.0.2.1"), INVITE, &IDLE), Verdict::Pass, "a stream is not forged");
    assert!(!guard.is_banned(now, ip("192.0.2.1")));
    assert_eq!(guard.judge_keep_alive(now, udp("192.0.2.1")), Verdict::Pass);
    assert!((0..21).any(|_| guard.malformed(now, tcp("192.0.2.1"))), "at once");
    assert_eq!(guard.judge(now, udp("192.0.2.1"), BYE, &IDLE), banned, "it is there, so it is to blame");
    assert!(guard.is_banned(now, ip("192.0.2.1")));
    assert_eq!(guard.judge_keep_alive(now, udp("192.0.2.1")), banned);
    let scopes: Vec<_> = std::iter::from_fn(|| guard.poll_change())
        .map(|change| change.banned.map(|(_, scope)| scope))
        .collect();
    assert_eq!(scopes, [Some(Scope::NewDatagrams), Some(Scope::All)]);
    guard.unban(ip("192.0.2.1"));
    assert_eq!(guard.ban_counts(), BanCounts { made: 2, lifted: 1 });
}

#[test]
fn a_wide_network_has_a_rate_of_its_own_and_so_has_everybody() {
    let wide = Rate { per_second: 1, burst: 5 };
    let total = Some(Rate { per_second: 1, burst: 8 });
    let config = GuardConfig {
        wide_requests: wide,
        total_requests: total,
        above_rate: Action::Ban(Duration::MAX),
        ..tight()
    };
    let (mut guard, now) = (Guard::new(config), Instant::now());
    let mut passed = |site: u32, hosts: u32| {
        let sources = (0..hosts).map(|host| format!("2001:db8:{site:x}:{host:x}::1"));
        sources.filter(|source| guard.judge(now, udp(source), INVITE, &IDLE) == Verdict::Pass).count()
    };
    assert_eq!(passed(1, 100), 5, "of one /48");
    assert_eq!(passed(2, 100), 3, "of everybody");
    let last = guard.judge(now, udp("192.0.2.1"), INVITE, &IDLE);
    assert_eq!(last, Verdict::Drop(DropReason::RateTotal));
    assert_eq!(guard.bans(now).count(), 0, "nobody is banned for what his neighbours send");
}

#[test]
fn stun_has_a_rate_and_banned_sources_get_no_answer() {
    let rate = Rate { per_second: 1, burst: 2 };
    let config = GuardConfig {
        keep_alives: rate,
        deny: networks(&["192.0.2.9"]),
        peers: networks(&["192.0.2.8"]),
        ..tight()
    };
    let (mut guard, now) = (Guard::new(config), Instant::now());
    let mut judge = |source| guard.judge_keep_alive(now, udp(source));
    assert_eq!(judge("192.0.2.9"), Verdict::Drop(DropReason::Banned));
    let verdicts = [(); 3].map(|()| judge("192.0.2.1"));
    assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Drop(DropReason::RateKeepAlive)]);
    assert!((0..10).all(|_| judge("192.0.2.8") == Verdict::Pass), "a peer");
}

#[test]
fn signatures_are_not_evaded_by_the_form_of_the_head() {
    let (mut guard, now) = (Guard::new(GuardConfig::default()), Instant::now());
    let many = "X: y\r\n".repeat(100);
    for head in [
        "User-Agent:\r\n friendly-scanner\r\n",
        "User-Agent: friendly-scanner\r\nUser-Agent: phone\r\n",
        "User-Agent: phone\r\nUser-Agent: friendly-scanner\r\n",
        &format!("{many}User-Agent\t: friendly-scanner\r\n"),
    ] {
        let scan = format!("OPTIONS sip:100@b SIP/2.0\r\n{head}\r\n");
        let verdict = guard.judge(now, tcp("192.0.2.1"), scan.as_bytes(), &IDLE);
        assert_eq!(verdict, Verdict::Drop(DropReason::Scanner), "{head:?}");
    }
    let signatures = vec![Signature::new(Part::StartLine, "OPTIONS sip:100@", Action::Forbid)];
    guard.reload(GuardConfig { signatures, ..GuardConfig::default() });
    let led = [b"\r\n\r\n", SCAN].concat();
    assert_eq!(guard.judge(now, tcp("192.0.2.1"), &led, &IDLE), Verdict::Forbid(DropReason::Scanner));
}
