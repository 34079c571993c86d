//! The procedure against zones written by hand, on a clock that only the tests move.

use super::*;

/// Records by name and kind; what is not in it does not exist.
#[derive(Default)]
struct Zone {
    records: Vec<(Kind, Record)>,
    failing: Vec<&'static str>,
    asked: Vec<String>,
}

impl Zone {
    fn with(mut self, name: &str, kind: Kind, data: Data) -> Self {
        self.records.push((kind, Record { name: name.into(), ttl: Duration::from_secs(300), data }));
        self
    }

    fn naptr(self, name: &str, order: u16, service: &str, replacement: &str) -> Self {
        let (flags, regexp) = ("s".into(), String::new());
        let (service, replacement) = (service.into(), replacement.into());
        let naptr = Naptr { order, preference: 10, flags, service, regexp, replacement };
        self.with(name, Kind::Naptr, Data::Naptr(naptr))
    }

    fn srv(self, name: &str, priority: u16, port: u16, target: &str) -> Self {
        let srv = Srv { priority, weight: 1, port, target: target.into() };
        self.with(name, Kind::Srv, Data::Srv(srv))
    }

    fn a(self, name: &str, ip: &str) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        self.with(name, if ip.is_ipv4() { Kind::A } else { Kind::Aaaa }, Data::Address(ip))
    }

    fn answer(&mut self, question: &Question) -> Result<Vec<Record>, LookupError> {
        self.asked.push(format!("{} {}", question.kind, question.name));
        if self.failing.contains(&question.name.as_str()) {
            return Err(LookupError::Failed("SERVFAIL".into()));
        }
        let fits = |(kind, record): &&(Kind, Record)| {
            *kind == question.kind && record.name.eq_ignore_ascii_case(&question.name)
        };
        let found: Vec<_> = self.records.iter().filter(fits).map(|(_, record)| record.clone()).collect();
        match found.is_empty() {
            true => Err(LookupError::NoRecords { ttl: None }),
            false => Ok(found),
        }
    }
}

fn means(transports: &[Transport]) -> Means {
    Means { transports: transports.to_vec(), v4: true, v6: false }
}

const PLAIN: &[Transport] = &[Transport::Udp, Transport::Tcp];
const ALL: &[Transport] = &[Transport::Udp, Transport::Tcp, Transport::Tls];

fn resolution(uri: &str, means: Means) -> Resolution {
    let target = Target::of(&uri.parse().unwrap()).unwrap();
    Resolution::new(Instant::now(), target, means, ResolveLimits::default(), 1)
}

fn resolve(zone: &mut Zone, uri: &str, means: Means) -> Result<Resolved, ResolveError> {
    let mut resolution = resolution(uri, means);
    while resolution.outcome().is_none() {
        let question = resolution.poll_question().expect("an open resolution asks or waits");
        let answer = zone.answer(&question);
        resolution.handle_answer(&question, answer);
    }
    resolution.outcome().unwrap().clone()
}

fn hops(zone: &mut Zone, uri: &str, transports: &[Transport]) -> Vec<String> {
    let resolved = resolve(zone, uri, means(transports)).unwrap_or_else(|error| panic!("{error}"));
    resolved.hops.iter().map(|hop| format!("{} {}", hop.transport, hop.addr)).collect()
}

#[test]
fn a_number_needs_no_question() {
    for (uri, hop) in [
        ("sip:a@192.0.2.1", "UDP 192.0.2.1:5060"),
        ("sip:a@192.0.2.1:5070;transport=tcp", "TCP 192.0.2.1:5070"),
        ("sip:a@[2001:db8::1]", "UDP [2001:db8::1]:5060"),
        ("sips:a@192.0.2.1", "TLS 192.0.2.1:5061"),
        ("sips:a@192.0.2.1;transport=tcp", "TLS 192.0.2.1:5061"),
        ("sip:a@b.example:5070;maddr=192.0.2.1", "UDP 192.0.2.1:5070"),
    ] {
        let mut zone = Zone::default();
        assert_eq!(hops(&mut zone, uri, ALL), [hop], "{uri}");
        assert!(zone.asked.is_empty());
    }
    assert_eq!(hops(&mut Zone::default(), "sip:a@192.0.2.1", &[Transport::Tcp]), ["TCP 192.0.2.1:5060"]);
}

#[test]
fn a_port_asks_for_addresses_only() {
    let mut zone =
        Zone::default().a("pbx.example", "192.0.2.1").srv("_sip._udp.pbx.example", 1, 9, "x.example");
    assert_eq!(hops(&mut zone, "sip:a@PBX.example.:5070", PLAIN), ["UDP 192.0.2.1:5070"]);
    assert_eq!(zone.asked, ["A pbx.example"]);
}

/// RFC 3263 §4: TARGET is `maddr`; the certificate names the domain all the same (RFC 5922 §4).
#[test]
fn maddr_is_asked_for_and_the_domain_is_proven() {
    let mut zone = Zone::default().a("Proxy.example", "192.0.2.1").a("b.example", "192.0.2.9");
    let resolved = resolve(&mut zone, "sips:a@b.example:5070;maddr=proxy.example", means(ALL)).unwrap();
    assert_eq!(zone.asked, ["A proxy.example"]);
    let hop = &resolved.hops[0];
    assert_eq!((hop.addr.to_string().as_str(), hop.name.as_deref()), ("192.0.2.1:5070", Some("b.example")));
}

#[test]
fn naptr_leads_to_srv_and_to_addresses_in_the_order_of_the_domain() {
    let mut zone = Zone::default()
        .naptr("example.org", 90, "SIP+D2U", "_sip._udp.example.org")
        .naptr("example.org", 50, "SIP+D2T", "_sip._tcp.example.org")
        .naptr("example.org", 10, "SIPS+D2T", "_sips._tcp.example.org")
        .naptr("example.org", 1, "SIP+D2S", "_sip._sctp.example.org")
        .srv("_sip._udp.example.org", 1, 5060, "one.example.org")
        .srv("_sip._tcp.example.org", 2, 5080, "two.example.org")
        .srv("_sip._tcp.example.org", 1, 5070, "one.example.org")
        .srv("_sips._tcp.example.org", 1, 5061, "one.example.org")
        .a("one.example.org", "192.0.2.1")
        .a("two.example.org", "192.0.2.2");
    let plain = ["TCP 192.0.2.1:5070", "TCP 192.0.2.2:5080", "UDP 192.0.2.1:5060"];
    assert_eq!(hops(&mut zone, "sip:a@example.org", PLAIN), plain);
    assert!(!zone.asked.iter().any(|asked| asked.contains("_sips") || asked.contains("sctp")));
    let secure_too = ["TLS 192.0.2.1:5061", plain[0], plain[1], plain[2]];
    assert_eq!(hops(&mut zone, "sip:a@example.org", ALL), secure_too);
    assert_eq!(hops(&mut zone, "sips:a@example.org", ALL), ["TLS 192.0.2.1:5061"], "nothing in the clear");
}

#[test]
fn without_naptr_every_transport_is_asked_for_at_once() {
    let mut zone = Zone::default()
        .srv("_sip._tcp.example.org", 1, 5070, "h.example.org")
        .a("h.example.org", "192.0.2.1");
    assert_eq!(hops(&mut zone, "sip:a@example.org", ALL), ["TCP 192.0.2.1:5070"]);
    let asked = [
        "NAPTR example.org",
        "SRV _sip._udp.example.org",
        "SRV _sip._tcp.example.org",
        "SRV _sips._tcp.example.org",
        "A h.example.org",
    ];
    assert_eq!(zone.asked, asked);
}

#[test]
fn without_srv_the_address_of_the_domain_is_taken() {
    let mut zone = Zone::default().a("example.org", "192.0.2.1");
    assert_eq!(hops(&mut zone, "sip:a@example.org", PLAIN), ["UDP 192.0.2.1:5060"]);
    assert_eq!(hops(&mut zone, "sips:a@example.org", ALL), ["TLS 192.0.2.1:5061"]);
    zone.asked.clear();
    assert_eq!(hops(&mut zone, "sip:a@example.org;transport=tcp", PLAIN), ["TCP 192.0.2.1:5060"]);
    assert_eq!(zone.asked, ["SRV _sip._tcp.example.org", "A example.org"]);
}

#[test]
fn a_service_that_the_domain_denies_is_not_looked_for_elsewhere() {
    let mut zone = Zone::default().srv("_sip._tcp.example.org", 0, 0, ".").a("example.org", "192.0.2.1");
    let error = resolve(&mut zone, "sip:a@example.org;transport=tcp", means(PLAIN)).unwrap_err();
    assert_eq!(error.host, "example.org");
    assert!(error.to_string().contains("check the name, or give hops"), "{error}");
}

#[test]
fn ipv6_comes_first_where_both_are_there_and_is_not_asked_for_where_it_cannot_be_reached() {
    let mut zone = Zone::default().a("h.example", "192.0.2.1").a("h.example", "2001:db8::1");
    let both = Means { v6: true, ..means(PLAIN) };
    let resolved = resolve(&mut zone, "sip:h.example:5060", both).unwrap();
    let ips: Vec<_> = resolved.hops.iter().map(|hop| hop.addr.ip().to_string()).collect();
    assert_eq!(ips, ["2001:db8::1", "192.0.2.1"]);
    zone.asked.clear();
    resolve(&mut zone, "sip:h.example:5060", means(PLAIN)).unwrap();
    assert_eq!(zone.asked, ["A h.example"]);
}

#[test]
fn a_failed_step_is_passed_over_and_named_when_nothing_else_helps() {
    let mut zone = Zone::default().a("example.org", "192.0.2.1");
    zone.failing = vec!["_sip._udp.example.org"];
    assert_eq!(hops(&mut zone, "sip:a@example.org", PLAIN), ["UDP 192.0.2.1:5060"]);
    zone.failing = vec!["example.org"];
    let error = resolve(&mut zone, "sip:a@example.org", means(PLAIN)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot resolve example.org: A example.org: SERVFAIL; check the resolver, or give hops"
    );
}

#[test]
fn silence_ends_with_the_time_and_what_is_known_then_is_used() {
    let both = Means { v6: true, ..means(PLAIN) };
    let mut resolution = resolution("sip:h.example:5060", both);
    let asked: Vec<_> = std::iter::from_fn(|| resolution.poll_question()).collect();
    assert_eq!(asked.len(), 2, "both families at once");
    let mut zone = Zone::default().a("h.example", "192.0.2.1");
    let answer = zone.answer(&asked[1]);
    resolution.handle_answer(&asked[1], answer);
    assert!(resolution.outcome().is_none(), "AAAA may still come");
    let deadline = resolution.poll_timeout().unwrap();
    resolution.handle_timeout(deadline - Duration::from_millis(1));
    assert!(resolution.outcome().is_none());
    resolution.handle_timeout(deadline);
    let hops = &resolution.outcome().unwrap().as_ref().unwrap().hops;
    assert_eq!(hops[0].addr, "192.0.2.1:5060".parse().unwrap());
    assert_eq!(resolution.poll_timeout(), None);
}

#[test]
fn silence_alone_is_an_error_that_says_so() {
    let mut resolution = resolution("sip:a@example.org", means(PLAIN));
    let deadline = resolution.poll_timeout().unwrap();
    resolution.handle_timeout(deadline);
    let error = resolution.outcome().unwrap().as_ref().unwrap_err();
    assert!(error.why.contains("no answer in time"), "{error}");
}

#[test]
fn aliases_are_followed_within_an_answer_and_across() {
    let alias = |to: &str| Data::Alias(to.into());
    let mut zone = Zone::default()
        .with("a.example", Kind::A, alias("b.example"))
        .with("b.example", Kind::A, alias("c.example"))
        .a("c.example", "192.0.2.3");
    assert_eq!(hops(&mut zone, "sip:a.example:5060", PLAIN), ["UDP 192.0.2.3:5060"]);
    assert_eq!(zone.asked, ["A a.example", "A b.example", "A c.example"]);
}

#[test]
fn circles_of_aliases_end() {
    let alias = |to: &str| Data::Alias(to.into());
    let mut across = Zone::default().with("a.example", Kind::A, alias("b.example")).with(
        "b.example",
        Kind::A,
        alias("a.example"),
    );
    let error = resolve(&mut across, "sip:a.example:5060", means(PLAIN)).unwrap_err();
    assert!(error.why.contains("never end"), "{error}");

    let mut resolution = resolution("sip:a.example:5060", means(PLAIN));
    let question = resolution.poll_question().unwrap();
    let record = |name: &str, to: &str| Record { name: name.into(), ttl: Duration::ZERO, data: alias(to) };
    resolution.handle_answer(
        &question,
        Ok(vec![record("a.example", "b.example"), record("b.example", "a.example")]),
    );
    assert!(resolution.outcome().unwrap().is_err());
}

#[test]
fn records_of_other_names_are_not_believed() {
    let mut resolution = resolution("sip:a.example:5060", means(PLAIN));
    let question = resolution.poll_question().unwrap();
    let record = |name: &str, ip: &str| Record {
        name: name.into(),
        ttl: Duration::from_secs(1),
        data: Data::Address(ip.parse().unwrap()),
    };
    let stray = Question::new("bank.example", Kind::A);
    resolution.handle_answer(&stray, Ok(vec![record("bank.example", "203.0.113.9")]));
    let answer = vec![
        record("bank.example", "203.0.113.9"),
        record("A.example.", "192.0.2.1"),
        record("a.example", "0.0.0.0"),
        record("a.example", "2001:db8::1"),
    ];
    resolution.handle_answer(&question, Ok(answer));
    let resolved = resolution.outcome().unwrap().as_ref().unwrap();
    assert_eq!(resolved.hops.len(), 1, "{resolved:?}");
    assert_eq!(resolved.ttl, Some(Duration::from_secs(1)));
}

#[test]
fn however_much_a_domain_says_the_work_is_bounded() {
    let mut zone = Zone::default();
    for n in 0..200u16 {
        let service = format!("_sip._udp.s{n}.example.org");
        zone = zone.naptr("example.org", n, "SIP+D2U", &service);
        for k in 0..40 {
            zone = zone.srv(&service, k, 5060, &format!("h{n}-{k}.example.org"));
        }
    }
    zone = zone.a("h0-0.example.org", "192.0.2.1");
    assert_eq!(hops(&mut zone, "sip:a@example.org", PLAIN), ["UDP 192.0.2.1:5060"]);
    assert!(zone.asked.len() <= ResolveLimits::default().questions, "{}", zone.asked.len());

    let mut crowd = Zone::default();
    for n in 0..100 {
        crowd = crowd.a("h.example", &format!("192.0.2.{n}")).a("h.example", "192.0.2.1");
    }
    let found = hops(&mut crowd, "sip:h.example:5060", PLAIN);
    let distinct: HashSet<_> = found.iter().collect();
    assert!(found.len() <= 16 && distinct.len() == found.len(), "{found:?}");
}

#[test]
fn secure_hops_prove_the_domain_that_was_asked_for() {
    let mut zone = Zone::default()
        .naptr("example.org", 1, "SIPS+D2T", "_sips._tcp.hosting.example")
        .srv("_sips._tcp.hosting.example", 1, 5061, "h7.hosting.example")
        .a("h7.hosting.example", "192.0.2.7");
    let resolved = resolve(&mut zone, "sips:a@example.org", means(ALL)).unwrap();
    assert_eq!(resolved.hops[0].name.as_deref(), Some("example.org"));
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_remedy() {
    let target = |uri: &str| Target::of(&uri.parse().unwrap());
    assert!(target("tel:+15550100").unwrap_err().why.contains("hops"));
    assert!(target("sips:a@b.example;transport=udp").unwrap_err().why.contains("drop its transport"));
    assert!(target("sip:a@b.example;transport=pigeon").unwrap_err().why.contains("unknown"));
    let error = resolve(&mut Zone::default(), "sips:a@192.0.2.1", means(PLAIN)).unwrap_err();
    assert!(error.why.contains("set TLS or WSS up"), "{error}");
    let error = resolve(&mut Zone::default(), "sip:a@192.0.2.1;transport=tls", means(PLAIN)).unwrap_err();
    assert!(error.why.contains("set TLS up"), "{error}");
    let secured = Target::of(&"sip:p.example;transport=tcp".parse().unwrap()).unwrap().secured();
    assert_eq!((secured.transport, secured.secure), (Some(Transport::Tls), true));
}
