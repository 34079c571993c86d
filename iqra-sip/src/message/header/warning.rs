//! `Warning`: more about a status, for people and logs (RFC 3261 §20.43).

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, DIGIT, SPACE, VALUE, Why};
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// One warning: `399 iqra "text"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Three digits; 399 is for texts of one's own.
    pub code: u16,
    agent: Text,
    text: Text,
}

impl Warning {
    /// A warning by an agent (a host or a pseudonym, without white space). A code above 999 becomes 399.
    #[must_use]
    pub fn new(code: u16, agent: &str, text: &str) -> Warning {
        let agent: String =
            agent.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | ',' | ';')).collect();
        let agent = if agent.is_empty() { String::from("-") } else { agent };
        let code = if matches!(code, 100..=999) { code } else { 399 };
        Warning { code, agent: Text::from(agent), text: Text::from(grammar::quote(text)) }
    }

    /// Who warns.
    #[must_use]
    pub fn agent(&self) -> Cow<'_, str> {
        self.agent.to_str()
    }

    /// The text without its quotes.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        grammar::unquote(grammar::unfold(self.text.to_str()))
    }
}

impl TypedHeader for Warning {
    const NAME: HeaderName = HeaderName::WARNING;

    fn read(values: &mut Values<'_>) -> Option<Result<Warning, &'static str>> {
        values.element().map(|text| read(&text))
    }
}

fn read(text: &Text) -> Result<Warning, Why> {
    let mut cursor = Cursor::new(text.as_bytes());
    let code = cursor.take(DIGIT);
    if code.len() != 3 || cursor.take(SPACE).is_empty() {
        return Err("does not begin with three digits and a space");
    }
    let agent = cursor.take(VALUE);
    if agent.is_empty() || cursor.take(SPACE).is_empty() || cursor.peek() != Some(b'"') {
        return Err("is not a code, an agent and a quoted text");
    }
    let quoted = cursor.quoted()?;
    if !cursor.done() {
        return Err("goes on after its text");
    }
    let code = grammar::number(&text.as_bytes()[code], 999)? as u16;
    let part = |range| Text::from(text.bytes().slice(range));
    Ok(Warning { code, agent: part(agent), text: part(quoted) })
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {} {}", self.code, self.agent, self.text)
    }
}
