//! Messages that are meant to hurt: one or more for each clause of RFC 4475 and RFC 5118, in our own words and values,
//! and what else has broken SIP parsers in the field. Each says what must come of it.

mod common;

use bytes::Bytes;
use common::{message, options, options_with, refused, request};
use iqra_sip::message::header::{CSeq, CallId, Contact, From, MaxForwards, Route, To, Via, Warning};
use iqra_sip::message::{Fault, HeaderError, Host, Scheme, UriError};
use iqra_sip::{HeaderName, Message, Method, StatusCode};

fn invalid(fault: &Fault, header: HeaderName) -> bool {
    matches!(fault, Fault::Invalid { name, .. } if *name == header)
}

// RFC 4475 §3.1.1: valid messages.

#[test]
fn white_space_and_folds_stand_wherever_the_grammar_lets_them_3_1_1_1() {
    let m = request(
        "INVITE sip:desk@pbx.example;weird SIP/2.0\r\n\
        tO :\r\n\t<sip:desk@pbx.example> ;  tag   =  t-17\r\n\
        FROM   : \"Q \\\\\\\"\"     <sip:q@home.example>\r\n ;\r\n  tag = f-18\r\n\
        Max-FORWARDS: 0041\r\n\
        i: fold.one@home\r\n\
        cSeQ: 0012\r\n  INVITE\r\n\
        Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.80;branch=z9hG4bKone\r\n\
        s :\r\n\
        X-Strange: ;;,,;,;\r\n\
        Route:\r\n <sip:hop.example;lr;x=y>\r\n\
        v:  SIP  / 2.0  / TCP     hop.example   ;\r\n  branch  =   z9hG4bKtwo  ,\r\n SIP/2.0/UDP 10.1.2.3 ; branch=\r\n z9hG4bKthree\r\n\
        m:\"A \\\"b\\\"\" <sip:q@home.example> ; one =\r\n   two ;\r\n  three ; q = 0.25\r\n\
        Content-Length   : 2\r\n\r\nhi",
    );
    assert_eq!(m.headers.typed::<To>().unwrap().tag().unwrap(), "t-17");
    assert_eq!(m.headers.typed::<From>().unwrap().tag().unwrap(), "f-18");
    assert_eq!(m.headers.typed::<From>().unwrap().display_name().unwrap(), "Q \\\"");
    assert_eq!(m.headers.typed::<MaxForwards>().unwrap(), MaxForwards(41));
    assert_eq!(m.headers.typed::<CSeq>().unwrap(), CSeq { number: 12, method: Method::Invite });
    let branches: Vec<String> =
        m.headers.typed_all::<Via>().map(|via| via.unwrap().branch().unwrap().into_owned()).collect();
    assert_eq!(branches, ["z9hG4bKone", "z9hG4bKtwo", "z9hG4bKthree"]);
    assert_eq!(m.headers.typed::<Contact>().unwrap().q(), Some(250));
    assert_eq!(m.headers.get("s").unwrap(), "");
    assert!(m.headers.typed::<Route>().unwrap().uri.param("LR").is_some());
    assert_eq!(&m.body[..], b"hi");
}

#[test]
fn every_token_character_makes_a_method_and_a_nul_may_be_escaped_3_1_1_2() {
    let method = "Odd.Method-09!%*_+`'~";
    let m = request(&format!(
        "{method} sip:u.(x)~&=+$,;/?!*'-_:p&=+$,@h.example;a=[b]:/&+$?x=y&z= SIP/2.0\r\n\
        Via: SIP/2.0/TCP h.example;branch=z9hG4bK!%66*_+`'~\r\n\
        To: \"bell \\\x07 nul \\\0 del \\\x7f\" <sip:u@h.example>\r\n\
        From: one~` two'+_ three*%!.- <sip:u@h.example>;p''~+*_!.-%=\"naïve\";tag=_t~1'+`*%!-.\r\n\
        Call-ID: w%Z-!.*_+'@word`~)(><:\\/\"][?}}{{\r\n\
        CSeq: 99 {method}\r\n\
        X-!.%*+_`'~: ﻿日本\r\n\
        Max-Forwards: 255\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(m.method.as_str(), method);
    assert_eq!(m.uri.user(), Some("u.(x)~&=+$,;/?!*'-_"));
    assert_eq!(m.headers.typed::<From>().unwrap().tag().unwrap(), "_t~1'+`*%!-.");
    assert_eq!(m.headers.typed::<From>().unwrap().params.value("p''~+*_!.-%").unwrap(), "naïve");
    assert_eq!(m.headers.typed::<CallId>().unwrap().to_str(), "w%Z-!.*_+'@word`~)(><:\\/\"][?}{");
}

#[test]
fn escapes_belong_to_uris_and_to_nothing_else_3_1_1_3_to_5() {
    let m = request(
        "R%45FER sip:%73ales%20desk%00@pbx.example;p=%20 SIP/2.0\r\n\
        Via: SIP/2.0/UDP h.example;branch=z9hG4bK%41\r\n\
        To: \"%41\" <sip:%61@h.example>\r\nFrom: <sip:b@h.example>;tag=%62\r\n\
        Call-ID: e%20@h\r\nCSeq: 1 R%45FER\r\nC%6Fntact: <sip:x@h.example>\r\nl: 0\r\n\r\n",
    );
    assert_eq!(m.method.as_str(), "R%45FER", "a method is not unescaped");
    assert_eq!(m.uri.user_decoded().unwrap(), "sales desk\0");
    assert_eq!(m.uri.user().unwrap(), "%73ales%20desk%00");
    assert_eq!(m.headers.typed::<To>().unwrap().display_name().unwrap(), "%41");
    assert_eq!(m.headers.typed::<From>().unwrap().tag().unwrap(), "%62");
    assert!(!m.headers.contains(HeaderName::CONTACT), "a header name is not unescaped");
}

#[test]
fn no_space_need_stand_before_the_angle_bracket_3_1_1_6() {
    let m = options_with("From: ", "From: helper<sip:h@h.example>;tag=9");
    assert_eq!(m.headers.typed::<From>().unwrap().display_name().unwrap(), "helper");
}

#[test]
fn long_values_and_many_headers_are_read_3_1_1_7() {
    let vias: String =
        (0..40).map(|n| format!("Via: SIP/2.0/UDP hop{n}.example;branch=z9hG4bK{n}\r\n")).collect();
    let long = "long".repeat(400);
    let text = options().replace("Via: ", &format!("{vias}X-{long}: {long}\r\nVia: "));
    let m = request(&text);
    assert_eq!(m.headers.typed_all::<Via>().count(), 41);
    assert_eq!(m.headers.get(&*format!("x-{long}")).unwrap(), long);
    assert_eq!(m.to_bytes(), text.as_bytes());
}

#[test]
fn octets_behind_the_stated_body_are_left_out_of_a_datagram_3_1_1_8() {
    let twice = format!("{}{}", options(), options().replace("OPTIONS", "INVITE"));
    let m = request(&twice);
    assert_eq!(m.method, Method::Options);
    assert!(m.body.is_empty());
    assert_eq!(m.to_bytes(), options().as_bytes());
}

#[test]
fn semicolons_in_the_user_part_are_no_parameters_3_1_1_9() {
    let m = request(&options().replace("sip:ping@voice.example", "sip:u;p=a%40b@voice.example"));
    assert_eq!(m.uri.user(), Some("u;p=a%40b"));
    assert_eq!(m.uri.params().count(), 0);
}

#[test]
fn any_transport_stands_in_a_via_3_1_1_10() {
    for transport in ["UDP", "SCTP", "TLS", "wss", "CARRIER-PIGEON"] {
        let m = options_with("Via: ", &format!("Via: SIP/2.0/{transport} h.example;branch=z9hG4bKx"));
        assert_eq!(m.headers.typed::<Via>().unwrap().transport(), transport);
    }
}

#[test]
fn a_binary_body_comes_through_untouched_3_1_1_11() {
    let body: Vec<u8> = (0..=255).chain(*b"\r\n\r\n--b\n").collect();
    let mut octets = options().replace("l: 0", &format!("l: {}", body.len())).into_bytes();
    octets.extend(&body);
    let Message::Request(m) = Message::parse(Bytes::from(octets.clone())).unwrap() else {
        panic!("is a request")
    };
    assert_eq!(m.body, body);
    assert_eq!(m.to_bytes(), octets);
}

#[test]
fn a_reason_phrase_may_be_anything_or_nothing_3_1_1_12_and_13() {
    let tail = options().split_once("\r\n").unwrap().1.to_owned();
    for (line, status, reason) in [
        ("SIP/2.0 200 = дважды два", 200, "= дважды два"),
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 180", 180, ""),
        ("SIP/2.0 699 x", 699, "x"),
    ] {
        let Message::Response(m) = message(&format!("{line}\r\n{tail}")) else { panic!("is a response") };
        assert_eq!((m.status.code(), &*m.reason.to_str()), (status, reason));
        assert!(m.to_bytes().starts_with(line.trim_end().as_bytes()));
    }
}

// RFC 4475 §3.1.2: invalid messages.

#[test]
fn empty_parameters_and_elements_are_refused_3_1_2_1() {
    for via in ["192.0.2.1;;,;,,", "192.0.2.1;", "192.0.2.1;branch=", "192.0.2.1;a b"] {
        let error = refused(&options().replace("192.0.2.9;branch=z9hG4bKp1", via));
        assert!(invalid(&error.fault, HeaderName::VIA), "{via}: {error}");
        assert!(error.reply.is_some(), "{via}: its sent-by is the way back");
    }
    let error = refused(&options().replace("l: 0", "m: \"J\" <sip:j@h.example>;;;;\r\nl: 0"));
    assert_eq!(error.status, StatusCode::BAD_REQUEST);
    assert!(error.reply.is_some(), "the way back is known");
}

#[test]
fn a_body_shorter_than_stated_is_refused_3_1_2_2() {
    assert_eq!(refused(&options().replace("l: 0", "l: 9999")).fault, Fault::BodyTooShort);
}

#[test]
fn content_length_is_decimal_digits_once_3_1_2_3_and_3_3_9() {
    for odd in ["-999", "+5", "5x", "0x0", "", "4294967296", "18446744073709551615", "0, 0", "1\r\n 0"] {
        let error = refused(&options().replace("l: 0", &format!("Content-Length: {odd}")));
        assert!(invalid(&error.fault, HeaderName::CONTENT_LENGTH), "{odd}: {error}");
    }
    for again in ["l: 0\r\nl: 0", "l: 0\r\nContent-Length : 4", "l: 0\r\ncontent-length:\r\n 0"] {
        let error = refused(&options().replace("l: 0", again));
        assert_eq!(error.fault, Fault::Duplicate(HeaderName::CONTENT_LENGTH), "{again}");
    }
}

#[test]
fn numbers_out_of_range_are_refused_3_1_2_4_and_5() {
    let error = refused(&options().replace("7 OPTIONS", "2147483648 OPTIONS"));
    assert!(invalid(&error.fault, HeaderName::CSEQ));
    request(&options().replace("7 OPTIONS", "2147483647 OPTIONS"));
    let error = refused(&options().replace("Max-Forwards: 70", "Max-Forwards: 256"));
    assert!(invalid(&error.fault, HeaderName::MAX_FORWARDS));
    let answer = options().replace("OPTIONS sip:ping@voice.example SIP/2.0", "SIP/2.0 503 No");
    let error = refused(&answer.replace("7 OPTIONS", "99999999999999999999 OPTIONS"));
    assert!(error.reply.is_none(), "a response is discarded, not answered");
    let m = options_with("l: 0", "Expires: 99999999999999999999\r\nl: 0");
    assert!(m.headers.typed::<iqra_sip::message::header::Expires>().is_err(), "found when it is asked for");
}

#[test]
fn a_quote_without_its_end_is_refused_3_1_2_6() {
    let error =
        refused(&options().replace("To: sip:ping@voice.example", "To: \"No end <sip:p@voice.example>"));
    assert!(invalid(&error.fault, HeaderName::TO));
}

#[test]
fn the_request_line_is_read_to_the_letter_3_1_2_7_to_10() {
    for line in [
        "OPTIONS <sip:ping@voice.example> SIP/2.0",
        "OPTIONS sip:ping@voice.example; lr SIP/2.0",
        "OPTIONS  sip:ping@voice.example SIP/2.0",
        "OPTIONS sip:ping@voice.example  SIP/2.0",
        "OPTIONS sip:ping@voice.example SIP/2.0 ",
        "OPTIONS sip:ping@voice.example SIP/2",
        "OPTIONS sip:ping@voice.example",
        "OPTIONS SIP/2.0",
        "OPT(IONS sip:ping@voice.example SIP/2.0",
        " OPTIONS sip:ping@voice.example SIP/2.0",
        "OPTIONS sip:%2@voice.example SIP/2.0",
        "OPTIONS sip: SIP/2.0",
        "OPTIONS sip:@voice.example SIP/2.0",
        "OPTIONS :x SIP/2.0",
        "OPTIONS",
    ] {
        let error = refused(&options().replace("OPTIONS sip:ping@voice.example SIP/2.0", line));
        assert!(matches!(error.status.code(), 400 | 505), "{line}: {error}");
    }
}

#[test]
fn uri_headers_are_kept_and_left_to_whoever_asks_3_1_2_11() {
    let m = request(&options().replace("example SIP", "example?Route=%3Csip:x%3E&a=b SIP"));
    assert_eq!(m.uri.header("route").unwrap(), "<sip:x>");
    assert!(!m.headers.contains(HeaderName::ROUTE));
}

#[test]
fn a_bad_date_harms_nobody_who_does_not_read_it_3_1_2_12() {
    options_with("l: 0", "Date: Fri, 01 Jan 2027 10:00:00 EST\r\nl: 0");
}

#[test]
fn a_question_mark_needs_angle_brackets_3_1_2_13() {
    refused(&options().replace("l: 0", "m: sip:u@h.example?Route=%3Csip:x%3E\r\nl: 0"));
    options_with("l: 0", "m: <sip:u@h.example?Route=%3Csip:x%3E>\r\nl: 0");
}

#[test]
fn addresses_with_stray_spaces_are_refused_3_1_2_14() {
    for to in [
        "\"W, T\" < sip:w@h.example >",
        "<sip:w@h.example",
        "\"x\" sip:w@h.example",
        "W, T < sip:w@h.example>",
    ] {
        refused(&options().replace("To: sip:ping@voice.example", &format!("To: {to}")));
    }
}

/// The quotes are inferred where only one reading is left.
#[test]
fn display_names_may_lack_their_quotes_3_1_2_15() {
    for (name, commas) in [
        ("W, Tom", true),
        ("Müller", false),
        ("AT&T", false),
        ("Sales (EU)", false),
        ("+49 30/123", false),
        ("me@home", false),
        ("Room: 5", false),
        ("DOMAIN\\user", false),
        ("Who? [x] {y} #1", false),
        ("東京 支店", false),
    ] {
        let to = format!("To: {name} <sip:w@h.example>;tag=t1;");
        let text = options().replace("To: sip:ping@voice.example", &to);
        let m = options_with("To: sip:ping@voice.example", &to);
        let party: To = m.headers.typed().unwrap();
        assert_eq!(party.display_name().unwrap(), name);
        assert_eq!((party.uri.as_str(), party.tag().as_deref()), ("sip:w@h.example", Some("t1")), "{name}");
        assert_eq!(m.to_bytes(), text.as_bytes(), "untouched it stays as it came");
        let anew = iqra_sip::message::NameAddr::parse(party.0.to_string()).unwrap();
        assert_eq!(anew.display_name().unwrap(), name, "{anew}");
        for list in ["m", "Route"] {
            let line = format!("{list}: {name} <sip:w@h.example;lr>;, <sip:x@h.example;lr>\r\nl: 0");
            let text = options().replace("l: 0", &line);
            if commas {
                refused(&text);
            } else {
                message(&text);
            }
        }
    }
}

/// What another reader could take for something else.
#[test]
fn display_names_without_quotes_are_refused_where_they_could_be_read_otherwise() {
    for to in [
        "sip:a@h.example <sip:w@h.example>",
        "tel:1 <sip:w@h.example>",
        "x:y <sip:w@h.example>",
        "a;b <sip:w@h.example>",
        "a \"b\" <sip:w@h.example>",
        "a\"b <sip:w@h.example>",
        "a> <sip:w@h.example>",
        "Mü <x> <sip:w@h.example>",
        "Mü\u{1} <sip:w@h.example>",
        "Müller sip:w@h.example",
        "Müller",
        "<sip:w@h.example>;;",
        "<sip:w@h.example>;tag=",
        "<sip:w@h.example>, <sip:v@h.example>",
        "M, ü <sip:w@h.example>, V <sip:v@h.example>",
    ] {
        refused(&options().replace("To: sip:ping@voice.example", &format!("To: {to}")));
    }
}

#[test]
fn another_version_is_answered_505_3_1_2_16() {
    let error = refused(&options().replace("SIP/2.0\r\n", "SIP/7.0\r\n"));
    assert_eq!((error.fault, error.status), (Fault::Version, StatusCode::VERSION_NOT_SUPPORTED));
    assert_eq!(error.reply.unwrap().method, Method::Options);
}

#[test]
fn a_malformed_via_is_a_way_back_as_far_as_it_can_be_read_3_1_2_1_and_16() {
    let via = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKp1";
    for (bad, left) in [
        ("Via: SIP/7.0/UDP 192.0.2.9;branch=z9hG4bKp1", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKp1"),
        ("Via: sip / 3 / TCP  h.example:5070 ;rport;;x", "SIP/2.0/TCP h.example:5070;rport"),
        ("Via: SIP/2.0/UDP 192.0.2.9;;,;,,", "SIP/2.0/UDP 192.0.2.9"),
        ("Via: SIP/2.0/UDP [2001:db8::9];x=", "SIP/2.0/UDP [2001:db8::9]"),
    ] {
        let error = refused(&options().replace(via, bad));
        assert_eq!(error.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(error.reply.expect(bad).headers.typed::<Via>().unwrap().to_string(), left);
    }
    for lost in
        ["Via: HTTP/1.1/TCP h", "Via: SIP/2.0 192.0.2.9", "Via: SIP/2.0/UDP", "Via: SIP/2.0/UDP ;x", "Via: "]
    {
        assert!(refused(&options().replace(via, lost)).reply.is_none(), "{lost}");
    }
    let newer = options().replace("SIP/2.0\r\n", "SIP/7.0\r\n").replace("SIP/2.0/UDP", "SIP/7.0/UDP");
    let error = refused(&newer);
    assert_eq!((error.status, error.reply.is_some()), (StatusCode::VERSION_NOT_SUPPORTED, true));
}

#[test]
fn cseq_names_the_method_of_the_request_3_1_2_17_and_18() {
    assert_eq!(refused(&options().replace("7 OPTIONS", "7 INVITE")).fault, Fault::MethodMismatch);
    let unknown = options().replace("OPTIONS sip", "NOVEL sip");
    assert_eq!(refused(&unknown).fault, Fault::MethodMismatch);
    assert_eq!(refused(&options().replace("7 OPTIONS", "7 options")).fault, Fault::MethodMismatch);
}

#[test]
fn a_status_beyond_699_is_discarded_3_1_2_19() {
    let tail = options().split_once("\r\n").unwrap().1.to_owned();
    for code in ["4294967301", "700", "99", "099", "2OO", "-20", ""] {
        let error = refused(&format!("SIP/2.0 {code} no\r\n{tail}"));
        assert_eq!((error.fault, error.reply.is_none()), (Fault::Status, true), "{code}");
    }
}

// RFC 4475 §3.2 to §3.4.

#[test]
fn the_bare_cookie_is_no_branch_to_go_by_3_2_1() {
    let m = request(&options().replace("z9hG4bKp1", "z9hG4bK"));
    assert!(!m.headers.typed::<Via>().unwrap().has_unique_branch());
    assert!(request(options()).headers.typed::<Via>().unwrap().has_unique_branch());
}

#[test]
fn a_missing_header_is_named_3_3_1() {
    for (line, name) in [
        ("Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKp1\r\n", HeaderName::VIA),
        ("From: <sip:u@h.example>;tag=f1\r\n", HeaderName::FROM),
        ("To: sip:ping@voice.example\r\n", HeaderName::TO),
        ("Call-ID: p1@h.example\r\n", HeaderName::CALL_ID),
        ("CSeq: 7 OPTIONS\r\n", HeaderName::CSEQ),
    ] {
        let error = refused(&options().replace(line, ""));
        assert_eq!((error.fault, error.status), (Fault::Missing(name.clone()), StatusCode::BAD_REQUEST));
        assert_eq!(error.reply.is_some(), name != HeaderName::VIA, "without a Via there is no way back");
    }
}

#[test]
fn unknown_schemes_parse_and_say_so_3_3_2_to_4() {
    for (uri, scheme) in [
        ("whatIsThis:opaque-1", Scheme::Other("whatIsThis")),
        ("soap.beep://192.0.2.1:30/x", Scheme::Other("soap.beep")),
        ("urn:service:sos", Scheme::Other("urn")),
        ("tel:+1-555-0100;phone-context=x", Scheme::Tel),
        ("SIPS:u@h.example", Scheme::Sips),
    ] {
        let m = request(&options().replace("sip:ping@voice.example SIP", &format!("{uri} SIP")));
        assert_eq!(m.uri.scheme(), scheme);
        let m = options_with("From: ", &format!("From: <{uri}>;tag=1"));
        assert_eq!(m.headers.typed::<From>().unwrap().uri.scheme(), scheme);
    }
}

#[test]
fn extensions_media_and_credentials_are_for_the_layers_above_3_3_5_to_7_and_15() {
    let m = options_with(
        "l: 0",
        "Require: one, two\r\nProxy-Require: three\r\nAccept: text/odd\r\nContent-Type: application/odd\r\n\
        Authorization: NewFangled a=\"b,c\", d\r\nl: 0",
    );
    assert!(m.headers.typed::<iqra_sip::message::header::Require>().unwrap().contains("TWO"));
    assert_eq!(m.headers.get("authorization").unwrap(), "NewFangled a=\"b,c\", d");
}

#[test]
fn what_names_the_call_stands_once_3_3_8() {
    for (line, name) in [
        ("CSeq: 8 OPTIONS", HeaderName::CSEQ),
        ("i: other", HeaderName::CALL_ID),
        ("f: sip:x@h.example;tag=2", HeaderName::FROM),
        ("t: sip:x@h.example", HeaderName::TO),
        ("max-forwards: 70", HeaderName::MAX_FORWARDS),
        ("c: text/plain\r\nContent-Type: text/plain", HeaderName::CONTENT_TYPE),
        ("Expires: 1\r\nExpires: 2", HeaderName::EXPIRES),
        ("x: 90\r\nSession-Expires: 1800", HeaderName::SESSION_EXPIRES),
        ("RSeq: 1\r\nRSeq: 1", HeaderName::RSEQ),
        ("RAck: 1 1 INVITE\r\nRAck: 2 1 INVITE", HeaderName::RACK),
        ("o: refer\r\nEvent: presence", HeaderName::EVENT),
    ] {
        let error = refused(&options().replace("l: 0", &format!("{line}\r\nl: 0")));
        assert_eq!(error.fault, Fault::Duplicate(name));
        assert!(error.reply.is_some(), "the first of each makes an answer");
    }
}

#[test]
fn a_broadcast_via_is_for_the_transport_to_judge_3_3_10() {
    let m = options_with("Via: ", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa;received=255.255.255.255");
    assert_eq!(m.headers.typed::<Via>().unwrap().received(), Some("255.255.255.255".parse().unwrap()));
}

#[test]
fn zero_hops_left_is_still_a_message_3_3_11() {
    let m = request(&options().replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(m.headers.typed::<MaxForwards>().unwrap(), MaxForwards(0));
}

#[test]
fn parameters_belong_to_the_header_unless_bracketed_3_3_12_to_14() {
    let m = options_with(
        "l: 0",
        "m: sip:+15550100@gw.example;x\r\nm: <sip:+15550100@gw.example;x>\r\nm: *\r\nl: 0",
    );
    let contacts: Vec<Contact> = m.headers.typed_all().map(Result::unwrap).collect();
    let (bare, bracketed) = (contacts[0].address().unwrap(), contacts[1].address().unwrap());
    assert!(bare.params.contains("x") && bare.uri.param("x").is_none());
    assert!(bracketed.params.is_empty() && bracketed.uri.param("x") == Some(None));
    assert_eq!(contacts[2], Contact::All);
    let m = options_with("To: ", "To: sip:0@voice.example;tag=t;X-Business-Id=4");
    assert_eq!(m.headers.typed::<To>().unwrap().tag().unwrap(), "t");
}

#[test]
fn rfc_2543_left_out_branch_tag_hops_and_length_3_4_1() {
    let m = request(
        "INVITE sip:u@h.example SIP/2.0\r\nVia: SIP/2.0/UDP old.example\r\nFrom: <sip:a@old.example>\r\n\
        To: <sip:u@h.example>\r\nCall-ID: 1@old\r\nCSeq: 5 INVITE\r\n\r\nv=0\r\n",
    );
    assert!(m.headers.typed::<Via>().unwrap().branch().is_none());
    assert!(m.headers.typed::<From>().unwrap().tag().is_none());
    assert_eq!(&m.body[..], b"v=0\r\n");
    assert!(matches!(m.headers.typed::<MaxForwards>(), Err(HeaderError::Missing(_))));
}

// RFC 5118.

#[test]
fn ipv6_stands_in_brackets_4_1_to_4() {
    refused(&options().replace("ping@voice.example", "2001:db8::10"));
    for (uri, port) in [("sip:[2001:db8::10:5070]", None), ("sip:u@[2001:db8::10]:5070", Some(5070))] {
        let m = request(&options().replace("sip:ping@voice.example SIP", &format!("{uri} SIP")));
        assert!(matches!(m.uri.host(), Some(Host::Ip(ip)) if ip.is_ipv6()));
        assert_eq!(m.uri.port(), port);
        assert!(m.uri.socket_addr(5060).is_some());
    }
}

#[test]
fn received_takes_ipv6_with_and_without_brackets_4_5() {
    for received in ["2001:db8::9:255", "[2001:db8::9:255]"] {
        let m = options_with(
            "Via: ",
            &format!("Via: SIP/2.0/UDP [2001:db8::9];received={received};branch=z9hG4bKr"),
        );
        let via: Via = m.headers.typed().unwrap();
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via.branch().unwrap(), "z9hG4bKr");
    }
}

#[test]
fn both_families_mix_in_headers_and_bodies_4_6_to_4_9() {
    let m = options_with(
        "Via: ",
        "Via: SIP/2.0/UDP [2001:db8::1]:6050;branch=z9hG4bKa, SIP/2.0/TCP 192.0.2.1\r\n\
        Via: SIP/2.0/UDP [::ffff:192.0.2.2]:19823;branch=z9hG4bKb\r\n\
        Contact: \"T. Desk\" <sip:t@[::ffff:192.0.2.2]>",
    );
    let hosts: Vec<String> =
        m.headers.typed_all::<Via>().map(|via| via.unwrap().host().to_string()).collect();
    assert_eq!(hosts, ["[2001:db8::1]", "192.0.2.1", "[::ffff:192.0.2.2]"]);
}

#[test]
fn three_colons_are_no_address_4_10() {
    for (host, good) in
        [("[2001:db8:::192.0.2.1]", false), ("[2001:db8::192.0.2.1]", true), ("[]", false), ("[::1", false)]
    {
        let text = options().replace("ping@voice.example SIP", &format!("u@{host} SIP"));
        assert_eq!(Message::parse(Bytes::from(text)).is_ok(), good, "{host}");
    }
}

// Beyond the RFCs: what the field sends, and what an attacker would.

#[test]
fn octets_that_are_not_utf_8_cost_nothing_but_themselves() {
    let mut octets = options().as_bytes().to_vec();
    let at = options().find("To: ").unwrap();
    octets.splice(at..at, *b"Subject: caf\xe9\r\n");
    let Message::Request(m) = Message::parse(Bytes::from(octets.clone())).unwrap() else {
        panic!("is a request")
    };
    assert_eq!(m.headers.get("Subject").unwrap(), "caf\u{fffd}");
    assert_eq!(m.headers.raw("Subject").unwrap(), b"caf\xe9");
    assert!(m.headers.typed::<To>().is_ok(), "what follows is still there");
    assert_eq!(m.to_bytes(), octets);
}

/// RFC 3261 §7.3.1 and §19.1.1 let no parameter stand twice. Where the first and the last of two would make another
/// dialog, transaction or next hop, the message is refused; any other parameter may be sloppy.
#[test]
fn parameters_that_decide_stand_once() {
    let (from, to, via) = ("<sip:u@h.example>;tag=f1", "To: sip:ping@voice.example", "z9hG4bKp1");
    for (part, twice, name) in [
        (from, "<sip:u@h.example>;tag=f1;tag=f1", HeaderName::FROM),
        (from, "<sip:u@h.example>;TAG=f1;x;tag=f2", HeaderName::FROM),
        (from, "<sip:u@h.example>;tag", HeaderName::FROM),
        (to, "To: sip:ping@voice.example;tag=a;tag=b", HeaderName::TO),
        (to, "To: <sip:ping@voice.example>; tag ;x=1", HeaderName::TO),
        (via, "z9hG4bKp1;branch=z9hG4bKp2", HeaderName::VIA),
        (via, "z9hG4bKp1;rport;rport=5", HeaderName::VIA),
        (via, "z9hG4bKp1;received=192.0.2.1;x;Received=192.0.2.2", HeaderName::VIA),
        (via, "z9hG4bKp1;maddr=192.0.2.1;maddr=192.0.2.2", HeaderName::VIA),
        ("l: 0", "Route: <sip:a;lr;lr>\r\nl: 0", HeaderName::ROUTE),
        ("l: 0", "Route: <sip:b;lr>, <sip:a;maddr=x;lr;m%61ddr=y>\r\nl: 0", HeaderName::ROUTE),
        ("l: 0", "m: <sip:a;transport=tcp;transport=udp>\r\nl: 0", HeaderName::CONTACT),
    ] {
        let text = options().replace(part, twice);
        let error = refused(&text);
        assert!(invalid(&error.fault, name.clone()), "{twice}: {error}");
        assert!(error.reply.is_some(), "{twice}");
        let answer = text.replace("OPTIONS sip:ping@voice.example SIP/2.0", "SIP/2.0 200 OK");
        if ![HeaderName::ROUTE, HeaderName::CONTACT].contains(&name) {
            assert!(refused(&answer).reply.is_none(), "{twice}");
        }
    }
    for tail in [";lr;lr", ";transport=udp;x;TRANSPORT=udp", ";maddr=a;maddr=a", ";lr=on;%6cR"] {
        let error = refused(&options().replace("example SIP", &format!("example{tail} SIP")));
        assert_eq!(error.fault, Fault::Uri(UriError::Repeated), "{tail}");
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }
    for (part, fine) in [
        (from, "<sip:u@h.example>;tag=f1;x;x"),
        (via, "z9hG4bKp1;x;x, SIP/2.0/UDP h;branch=a;branch=b"),
        ("example SIP", "example;x=1;x=2;lr?lr=1&lr=2 SIP"),
        ("ping@voice.example SIP", "a;lr;lr@voice.example;lr SIP"),
    ] {
        request(&options().replace(part, fine));
    }
}

#[test]
fn a_request_that_makes_or_moves_a_dialog_names_one_place_to_be_reached_at() {
    let two =
        ["m: <sip:a@h.example>, <sip:b@h.example>", "m: <sip:a@h.example>\r\nContact: <sip:a@h.example>"];
    for contacts in two {
        let text = options().replace("l: 0", &format!("{contacts}\r\nl: 0"));
        request(&text);
        request(&text.replace("OPTIONS", "REGISTER"));
        for method in ["INVITE", "UPDATE", "REFER", "SUBSCRIBE", "NOTIFY"] {
            let error = refused(&text.replace("OPTIONS", method));
            assert_eq!(error.fault, Fault::Duplicate(HeaderName::CONTACT), "{method} {contacts}");
        }
        let moved = text.replace("OPTIONS sip:ping@voice.example SIP/2.0", "SIP/2.0 302 Moved");
        message(&moved.replace("OPTIONS", "INVITE"));
    }
}

#[test]
fn a_quoted_value_hides_no_tag() {
    let m = options_with("From: ", "From: <sip:u@h.example>;x=\"q;tag=evil\";tag=real");
    assert_eq!(m.headers.typed::<From>().unwrap().tag().unwrap(), "real");
}

#[test]
fn lists_part_at_commas_outside_of_quotes_and_brackets() {
    let m = options_with(
        "l: 0",
        "m: \"a, b\" <sip:x@h.example;p=1,2>;q=1, <sip:y@h.example>\r\nWarning: 399 h \"a, b\"\r\nl: 0",
    );
    assert_eq!(m.headers.typed_all::<Contact>().filter(Result::is_ok).count(), 2);
    assert_eq!(m.headers.typed::<Warning>().unwrap().text(), "a, b");
}

#[test]
fn lone_line_breaks_nuls_and_nameless_lines_are_refused() {
    for (bad, fault) in [
        ("X: a\nl: 0", Fault::LineBreak),
        ("X: a\rb\r\nl: 0", Fault::LineBreak),
        ("X: a\0b\r\nl: 0", Fault::Nul),
        ("no colon here\r\nl: 0", Fault::HeaderLine(8)),
        (": nameless\r\nl: 0", Fault::HeaderLine(8)),
        ("Content Length: 0\r\nl: 0", Fault::HeaderLine(8)),
    ] {
        assert_eq!(refused(&options().replace("l: 0", bad)).fault, fault, "{bad:?}");
    }
    let ok = "SIP/2.0 200 Fine \\\0\r\nVia: SIP/2.0/UDP h\r\nf: sip:a@h\r\nt: sip:b@h\r\ni: 1\r\nCSeq: 1 BYE\r\n\r\n";
    assert_eq!(refused(ok).fault, Fault::Nul, "a backslash escapes nothing in a reason phrase");
    assert_eq!(refused("").fault, Fault::Incomplete);
    assert_eq!(refused("OPTIONS sip:a@b SIP/2.0\r\nX: y\r\n").fault, Fault::Incomplete);
    assert_eq!(refused(&options().replace("\r\n", "\n")).fault, Fault::LineBreak);
}

#[test]
fn empty_lines_before_the_start_line_are_passed_over() {
    assert_eq!(request(&format!("\r\n\r\n{}", options())), request(options()));
}

#[test]
fn an_ack_is_never_answered() {
    let ack = options().replace("OPTIONS", "ACK");
    assert!(refused(&ack.replace("l: 0", "l: x")).reply.is_none());
}

#[test]
fn limits_hold_and_say_which_they_are() {
    let long = format!("sip:{}@voice.example", "x".repeat(5000));
    let error = refused(&options().replace("sip:ping@voice.example SIP", &format!("{long} SIP")));
    assert_eq!(error.status, StatusCode::REQUEST_URI_TOO_LONG);
    assert!(error.reply.is_some());
    let many = "X-Y: y\r\n".repeat(300);
    let error = refused(&options().replace("l: 0", &format!("{many}l: 0")));
    assert_eq!((error.fault, error.status), (Fault::TooManyHeaders(256), StatusCode::BAD_REQUEST));
    let huge = "z".repeat(40_000);
    let error = refused(&options().replace("l: 0", &format!("X: {huge}\r\nl: 0")));
    assert_eq!(error.fault, Fault::TooLarge(32_768));
    let mut octets = options().replace("l: 0\r\n", "").into_bytes();
    octets.resize(70_000, b'.');
    assert_eq!(Message::parse(Bytes::from(octets)).unwrap_err().status, StatusCode::MESSAGE_TOO_LARGE);
}

#[test]
fn an_error_names_the_header_and_never_the_value() {
    let secret = "Max-Forwards: 5550100-secret";
    let error = refused(&options().replace("Max-Forwards: 70", secret));
    assert!(error.to_string().contains("Max-Forwards"));
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[test]
fn debug_shows_no_numbers_and_no_credentials() {
    let m = request(&options().replace("ping@", "+15550199@").replace(
        "l: 0",
        "Authorization: Digest response=\"5ec4e7\"\r\nm: \"Name\" <sip:+15550123@h.example>\r\nl: 0",
    ));
    let shown = format!("{m:?} {:?} {:?}", m.headers.typed::<Contact>(), m.headers.typed::<From>());
    for secret in ["15550199", "15550123", "5ec4e7", "Name"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
