//! Calls with a phone of others in which each side hears what the other plays, and its keys: the same with every phone.

use iqra_sip::Transport;
use iqra_sip::event::{Body, OutgoingInvite};
use iqra_sip::net::{Answer, Call};

use crate::endpoint::{Us, answered, confirmed, soon};
use crate::media::{Keys, Media, Talk, recorded};
use crate::melody::Melody;
use crate::phone::{self, Act, Phone, Says};

/// A phone that plays a melody into its calls and records them.
pub trait Talker: Phone {
    /// Begins a recording of its own with its next call.
    fn begin_recording(&mut self);

    /// What it has heard so far of its call, with the samples per second.
    fn recording(&self) -> Option<(Vec<i16>, u32)>;

    /// Sends the digit 5 by an event of RFC 4733.
    fn press_five(&mut self);

    /// Waits until it has got a key.
    ///
    /// # Panics
    /// When it does not in time.
    fn gets_key(&mut self, key: char);
}

/// What a call is like.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The one codec of our side, by name and clock rate in Hz.
    pub codec: (&'static str, u32),
    /// How our side has the audio protected.
    pub keys: Keys,
    /// What we play.
    pub ours: Melody,
    /// What the phone plays.
    pub theirs: Melody,
}

impl Terms {
    /// In the clear, in telephone bandwidth.
    pub fn narrow(codec: &'static str) -> Self {
        Self { codec: (codec, 8_000), keys: Keys::None, ours: Melody::OURS, theirs: Melody::THEIRS }
    }

    /// In the clear, in wideband.
    pub fn wide(codec: &'static str, clock_rate: u32) -> Self {
        let (ours, theirs) = (Melody::OURS_WIDE, Melody::THEIRS_WIDE);
        Self { codec: (codec, clock_rate), keys: Keys::None, ours, theirs }
    }

    /// The same with the audio protected.
    #[must_use]
    pub fn secured(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }
}

/// The phone calls us, and we call the phone; whoever calls offers.
///
/// # Panics
/// When a side does not hear the other.
pub async fn each_way(phone: &mut impl Talker, terms: Terms) {
    let (mut us, media) = (Us::plain().await, Media::start());
    phone.begin_recording();
    let (call, talk) = calls_us(&mut us, &media, phone, terms).await;
    talking(phone, call, talk, terms).await;
    phone.begin_recording();
    let (call, talk) = is_called(&us, &media, phone, terms).await;
    talking(phone, call, talk, terms).await;
    us.close().await;
}

async fn calls_us(us: &mut Us, media: &Media, phone: &mut impl Talker, terms: Terms) -> (Call, Talk) {
    phone.act(Act::Call(&us.uri("service", Transport::Udp).to_string()));
    let invite = us.called().await;
    let (answer, talk) = media.side(terms.codec, terms.keys).answer(&invite.request().body, terms.ours);
    let mut call = soon("room for the answer", invite.accept(Answer::sdp(answer))).await.expect("accepted");
    confirmed(&mut call).await;
    (call, talk)
}

async fn is_called(us: &Us, media: &Media, phone: &mut impl Talker, terms: Terms) -> (Call, Talk) {
    let side = media.side(terms.codec, terms.keys);
    let offer = side.offer();
    let body = Some(Body::sdp(offer.clone()));
    let mut call = us.call(OutgoingInvite { body, ..phone.invite() }).await;
    phone.says(Says::Ringing);
    phone.act(Act::Answer);
    let (call, response) = answered(&mut call).await;
    (call, side.answered(&offer, &response.body, terms.ours))
}

/// Both hear each other, and each the other's keys; then the phone hangs up.
async fn talking(phone: &mut impl Talker, call: Call, talk: Talk, terms: Terms) {
    phone.says(Says::Established);
    talk.hears(terms.theirs);
    recorded(terms.ours, || phone.recording());
    // Some phones have events at 8 kHz alone, which our offers of other clock rates do not name.
    let keyed = talk.negotiated.telephone_event.is_some();
    assert!(keyed || terms.codec.1 != 8_000, "no keys: {:?}", talk.negotiated);
    if keyed {
        phone.press_five();
        talk.hears_keys("5");
        talk.presses("4").await;
        phone.gets_key('4');
    }
    phone::hangs_up(phone, call).await;
    talk.close().await;
}
