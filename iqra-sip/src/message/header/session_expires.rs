//! `Session-Expires` and `Min-SE`: session timers (RFC 4028 §4, §5).

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, DIGIT};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

/// The shortest session interval that a party takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinSe {
    /// The interval in seconds.
    pub seconds: u32,
    /// What stands behind it; RFC 4028 defines no parameter.
    pub params: Params,
}

impl MinSe {
    /// The header without parameters.
    #[must_use]
    pub fn new(seconds: u32) -> Self {
        Self { seconds, params: Params::default() }
    }
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
        values.line().map(|text| interval(&text).map(|(seconds, params)| SessionExpires { seconds, params }))
    }
}

impl TypedHeader for MinSe {
    const NAME: HeaderName = HeaderName::MIN_SE;

    fn read(values: &mut Values<'_>) -> Option<Result<MinSe, &'static str>> {
        values.line().map(|text| interval(&text).map(|(seconds, params)| MinSe { seconds, params }))
    }
}

/// Both headers' `delta-seconds *(SEMI generic-param)`.
fn interval(text: &Text) -> Result<(u32, Params), &'static str> {
    let digits = Cursor::new(text.as_bytes()).take(DIGIT);
    let seconds = grammar::number(&text.as_bytes()[digits.clone()], u32::MAX)?;
    Ok((seconds, Params::parse(Text::from(text.bytes().slice(digits.end..)))?))
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.seconds, self.params)
    }
}

impl fmt::Display for MinSe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.seconds, self.params)
    }
}
