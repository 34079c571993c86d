//! `Session-Expires` and `Min-SE`: session timers (RFC 4028 §4, §5).

use std::fmt;

use super::number::number_header;
use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, DIGIT};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

number_header! {
    /// The shortest session interval in seconds that a party takes.
    MinSe(u32), MIN_SE
}

/// After how long without a refresh a session counts as ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval in seconds.
    pub seconds: u32,
    /// `refresher` and whatever else stands behind it.
    pub params: Params,
}

/// Who refreshes the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answers it.
    Uas,
}

impl SessionExpires {
    /// Who refreshes, where it is said.
    #[must_use]
    pub fn refresher(&self) -> Option<Refresher> {
        match self.params.value("refresher")?.to_ascii_lowercase().as_str() {
            "uac" => Some(Refresher::Uac),
            "uas" => Some(Refresher::Uas),
            _ => None,
        }
    }
}

impl TypedHeader for SessionExpires {
    const NAME: HeaderName = HeaderName::SESSION_EXPIRES;

    fn read(values: &mut Values<'_>) -> Option<Result<SessionExpires, &'static str>> {
        values.line().map(|text| {
            let digits = Cursor::new(text.as_bytes()).take(DIGIT);
            let seconds = grammar::number(&text.as_bytes()[digits.clone()], u32::MAX.into())? as u32;
            let params = Params::parse(Text::from(text.bytes().slice(digits.end..)))?;
            Ok(SessionExpires { seconds, params })
        })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.seconds, self.params)
    }
}
