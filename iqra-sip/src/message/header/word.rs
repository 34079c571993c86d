//! The headers that are a word and its parameters: `Event` (RFC 6665 §8.2.1), `Subscription-State` (RFC 6665 §8.2.3)
//! and `Refer-Sub` (RFC 4488 §4): one grammar, so one file.

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{Cursor, TOKEN, Why};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

macro_rules! word_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident, $(#[$word_doc:meta])* $word:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            word: Text,
            /// The parameters behind the word.
            pub params: Params,
        }

        impl $name {
            /// This word without parameters. What no token can hold becomes `-`.
            #[must_use]
            pub fn new(word: &str) -> $name {
                $name { word: Text::from(HeaderName::from(word).as_str()), params: Params::EMPTY }
            }

            $(#[$word_doc])*
            #[must_use]
            pub fn $word(&self) -> Cow<'_, str> {
                self.word.to_str()
            }

            /// The same with a parameter set.
            #[must_use]
            pub fn with_param(mut self, name: &str, value: Option<&str>) -> $name {
                self.params.set(name, value);
                self
            }
        }

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                values.line().map(|text| split(&text).map(|(word, params)| $name { word, params }))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", self.word, self.params)
            }
        }
    };
}

word_header! {
    /// What a SUBSCRIBE, NOTIFY or PUBLISH is about: `refer;id=93809824`.
    Event, EVENT,
    /// The event package; compares with case.
    package
}
word_header! {
    /// How a subscription stands: `active;expires=60`, `terminated;reason=noresource`.
    SubscriptionState, SUBSCRIPTION_STATE,
    /// `active`, `pending`, `terminated` or another; compares without case.
    state
}
word_header! {
    /// Whether a REFER makes a subscription: `false` asks for none, or agrees to that.
    ReferSub, REFER_SUB,
    /// `true` or `false`.
    word
}

impl Event {
    /// The `id` that tells subscriptions of one package in one dialog apart.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.params.value("id")
    }
}

impl SubscriptionState {
    /// True when no NOTIFY follows any more.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state().eq_ignore_ascii_case("terminated")
    }

    /// In how many seconds the subscription ends.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.params.value("expires")?.parse().ok()
    }

    /// Why it is terminated.
    #[must_use]
    pub fn reason(&self) -> Option<Cow<'_, str>> {
        self.params.value("reason")
    }
}

impl ReferSub {
    /// True for `false`: there is no subscription.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.word().eq_ignore_ascii_case("false")
    }
}

fn split(text: &Text) -> Result<(Text, Params), Why> {
    let word = Cursor::new(text.as_bytes()).take(TOKEN);
    if word.is_empty() {
        return Err("does not begin with a word");
    }
    let params = Params::parse(Text::from(text.bytes().slice(word.end..)))?;
    Ok((Text::from(text.bytes().slice(word)), params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn a_word_and_its_parameters_are_read_and_printed_again() {
        let mut headers = Headers::new();
        headers.push("o", "refer;id=93809824");
        headers.push("Subscription-State", "Terminated ; reason=noresource;expires=0");
        headers.push("Refer-Sub", "false");
        let event: Event = headers.typed().unwrap();
        assert_eq!((event.package().as_ref(), event.id().unwrap().as_ref()), ("refer", "93809824"));
        assert_eq!(event.to_string(), "refer;id=93809824");
        let state: SubscriptionState = headers.typed().unwrap();
        assert!(state.is_terminated());
        assert_eq!((state.reason().unwrap().as_ref(), state.expires()), ("noresource", Some(0)));
        assert!(headers.typed::<ReferSub>().unwrap().is_none());
    }

    #[test]
    fn a_value_without_a_word_is_refused() {
        let mut headers = Headers::new();
        headers.push("Event", ";id=1");
        assert!(headers.typed::<Event>().is_err());
    }
}
