//! The profiles. A fact stands here only with a source that was read; everything else is `None`.

use super::{Contact, Known, Profile, Redirects, SessionTimer, fact};
use crate::engine::flow::Transport;

/// A peer of whom nothing is known.
pub const UNKNOWN: Profile = Profile {
    name: "unknown",
    transport: None,
    registers: None,
    redirects: None,
    session_timer: None,
    ping: None,
    ping_floor: None,
    contact: None,
    contact_param: None,
    lowers_uri_params: None,
    bare_to: None,
    late_offer: None,
    retry_statuses: None,
    retries_silence: None,
    several_addresses: None,
    keeps_call_id: None,
    repeats_invite: None,
    cancels_elsewhere: None,
    header_budget: None,
    custom_headers: None,
    reserved_headers: None,
    telephone_event: None,
    bye_reason: None,
};

/// Twilio, Elastic SIP Trunking and Programmable Voice SIP.
pub const TWILIO: Profile = Profile {
    name: "Twilio",
    redirects: fact(Redirects::ToPublicOnly, "https://twilio.com/docs/api/errors/32219"),
    ping_floor: fact(15, "https://community.freepbx.org/t/sip-options-messages-as-a-ping-twilio/56356"),
    contact: fact(Contact::BehindRoutes, "https://github.com/thevoiceguy/siphon-ai/issues/342"),
    retries_silence: fact(true, "https://twilio.com/docs/api/errors/32011"),
    header_budget: fact(1_024, "https://www.twilio.com/docs/errors/21227"),
    custom_headers: fact(
        &["X-*", "User-to-User", "Remote-Party-ID", "P-Preferred-Identity", "P-Called-Party-ID"],
        "https://www.twilio.com/docs/errors/13252",
    ),
    ..UNKNOWN
};

const TELNYX_RETRIES: &str =
    "https://developers.telnyx.com/docs/voice/sip-trunking/routing/failover-and-retries";

/// Telnyx SIP trunking.
pub const TELNYX: Profile = Profile {
    name: "Telnyx",
    transport: fact(
        Transport::Udp,
        "https://developers.telnyx.com/api-reference/ip-connections/create-an-ip-connection",
    ),
    registers: fact(
        false,
        "https://developers.telnyx.com/docs/voice/sip-trunking/authentication/credential-types",
    ),
    contact: fact(Contact::BehindRoutes, "https://github.com/flutter-webrtc/dart-sip-ua/pull/578"),
    retry_statuses: fact(&[408, 480, 503, 504], TELNYX_RETRIES),
    several_addresses: fact(true, TELNYX_RETRIES),
    bye_reason: fact(true, "https://github.com/team-telnyx/freeswitch/pull/530"),
    ..UNKNOWN
};

const NEXMO_OVERVIEW: &str = "https://developer.nexmo.com/voice/sip/overview";

/// Vonage Voice API and SIP trunking.
pub const VONAGE: Profile = Profile {
    name: "Vonage",
    registers: fact(false, NEXMO_OVERVIEW),
    retry_statuses: fact(&[500, 501, 502, 503, 504, 505, 513], NEXMO_OVERVIEW),
    several_addresses: fact(true, NEXMO_OVERVIEW),
    custom_headers: fact(
        &["X-*", "User-to-User"],
        "https://app.unpkg.com/@vonage/voice@1.20.3/files/dist/esm/types/Endpoint/SIPEndpoint.d.mts",
    ),
    reserved_headers: fact(
        &["X-Nexmo*"],
        "https://github.com/Nexmo/nexmo-developer/blob/165a973/_documentation/en/voice/sip/concepts/programmable-sip.md",
    ),
    ..UNKNOWN
};

const THREE_CX_PAGE: &str = "https://www.3cx.cn/docs/supported-sip-trunk-requirements/";

/// 3CX Phone System, as the client of a trunk.
pub const THREE_CX: Profile = Profile {
    name: "3CX",
    registers: fact(true, THREE_CX_PAGE),
    session_timer: fact(SessionTimer::Supported, THREE_CX_PAGE),
    contact_param: fact("rinstance", THREE_CX_PAGE),
    late_offer: fact(false, "https://pastebin.com/9icQUD5h"),
    ..UNKNOWN
};

const PJSIP_DEFAULTS: &str =
    "https://github.com/asterisk/asterisk/blob/f0c1c1a/res/res_pjsip/pjsip_configuration.c";

/// Asterisk with `chan_pjsip`, and FreePBX on top of it.
pub const ASTERISK: Profile = Profile {
    name: "FreePBX/Asterisk",
    redirects: fact(Redirects::UserPart, PJSIP_DEFAULTS),
    session_timer: fact(SessionTimer::Asked { expires: 1_800, minimum: 90 }, "https://pastebin.com/X3Y6H6Ys"),
    ping: fact(60, "https://community.freepbx.org/t/sip-options-messages-as-a-ping-twilio/56356"),
    late_offer: fact(false, "https://pastebin.com/X3Y6H6Ys"),
    custom_headers: fact(
        &["*"],
        "https://github.com/asterisk/asterisk/blob/0e0677f/res/res_pjsip_header_funcs.c",
    ),
    telephone_event: fact(101, "https://github.com/asterisk/asterisk/blob/f0c1c1a/main/rtp_engine.c"),
    bye_reason: fact(true, "https://github.com/asterisk/asterisk/blob/f0c1c1a/res/res_pjsip_rfc3326.c"),
    ..UNKNOWN
};

/// Genesys Cloud (BYOC trunks) and Genesys SIP Server.
pub const GENESYS: Profile = Profile {
    name: "Genesys",
    transport: fact(Transport::Udp, "https://help.dev-genesys.cloud/130654"),
    late_offer: fact(true, "https://github.com/livekit/sip/issues/402"),
    several_addresses: fact(true, "https://help.mypurecloud.com/?p=155096"),
    reserved_headers: fact(
        &["x-inin*", "x-genesys*", "x-pcv*", "x-gcv*"],
        "https://next-rc-dev-sophie-zci6p.kinsta.app/268230",
    ),
    ..UNKNOWN
};

/// LiveKit SIP: a caller that ignores 302.
pub const LIVEKIT: Profile = Profile {
    name: "LiveKit SIP",
    redirects: fact(Redirects::Ignored, "https://github.com/livekit/sip/tree/be5d3f5/pkg/sip"),
    session_timer: fact(SessionTimer::None, "https://github.com/livekit/sip/pull/494"),
    ..UNKNOWN
};

const BROWSER_RTP: Known<u8> = fact(126, "measured: offers of WebRTC clients at 8 kHz");

/// JsSIP, over WebSocket.
pub const JSSIP: Profile = Profile {
    name: "JsSIP",
    transport: fact(Transport::Ws, "https://github.com/versatica/JsSIP/issues/297"),
    session_timer: fact(
        SessionTimer::Asked { expires: 90, minimum: 0 },
        "https://github.com/drachtio/drachtio-server/issues/284",
    ),
    contact: fact(Contact::Invalid, "https://github.com/drachtio/drachtio-server/issues/284"),
    lowers_uri_params: fact(true, "measured: JsSIP 3.13"),
    telephone_event: BROWSER_RTP,
    ..UNKNOWN
};

/// SIP.js, over WebSocket: another caller that ignores 302.
pub const SIP_JS: Profile = Profile {
    name: "SIP.js",
    redirects: fact(Redirects::Ignored, "https://github.com/onsip/SIP.js/issues/1005"),
    lowers_uri_params: fact(true, "measured: SIP.js 0.21"),
    telephone_event: BROWSER_RTP,
    ..UNKNOWN
};

/// pjsua2, the high-level API of pjproject.
pub const PJSUA2: Profile = Profile {
    name: "pjsua2",
    redirects: fact(Redirects::Followed, "measured: pjsua2 2.15 whose program accepts the redirect"),
    bare_to: fact(true, "measured: pjsua2 2.15 given a URI without brackets"),
    telephone_event: fact(120, "measured: pjsua2 2.15"),
    ..UNKNOWN
};

/// A gateway whose redundancy sends one INVITE by two proxies.
pub const GATEWAY: Profile = Profile {
    name: "repeating gateway",
    several_addresses: fact(true, "https://github.com/usnistgov/jsip/pull/28"),
    keeps_call_id: fact(true, "https://github.com/usnistgov/jsip/pull/28"),
    repeats_invite: fact(true, "https://github.com/usnistgov/jsip/pull/28"),
    ..UNKNOWN
};

/// Every profile of a real peer.
pub const ALL: [Profile; 11] =
    [TWILIO, TELNYX, VONAGE, THREE_CX, ASTERISK, GENESYS, LIVEKIT, JSSIP, SIP_JS, PJSUA2, GATEWAY];
