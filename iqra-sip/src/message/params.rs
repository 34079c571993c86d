//! Parameters of a header value: `;name=value;flag` (RFC 3261 §25.1 `generic-param`), read where they stand.

use std::borrow::Cow;
use std::fmt;

use super::grammar::{self, Cursor, Why};
use super::text::Text;

/// The parameters behind a header value, in order. Names compare without case; untouched ones print as they came.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Params(Text);

impl Params {
    /// No parameters.
    pub const EMPTY: Params = Params(Text::from_static(""));

    /// Takes over text that [`Cursor::params`] has accepted.
    pub(crate) fn checked(text: Text) -> Params {
        Params(text)
    }

    /// Reads `;name=value` pairs that stand alone.
    pub(crate) fn parse(text: Text) -> Result<Params, Why> {
        let mut cursor = Cursor::new(text.as_bytes());
        let range = cursor.params()?;
        if !cursor.done() {
            return Err("has a comma after its parameters");
        }
        Ok(Params(Text::from(text.bytes().slice(range))))
    }

    /// The value of a parameter without its quotes: `None` when it is not there, `Some(None)` when it is a flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<Cow<'_, str>>> {
        let bytes = self.0.as_bytes();
        let mut cursor = Cursor::new(bytes);
        while let Ok(Some(param)) = cursor.param() {
            if bytes[param.name].eq_ignore_ascii_case(name.as_bytes()) {
                let text = |range| grammar::unquote(String::from_utf8_lossy(&bytes[range]));
                return Some(param.value.map(text));
            }
        }
        None
    }

    /// The value of a parameter that has one, without its quotes.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).flatten()
    }

    /// True when the parameter is there, with or without a value.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All parameters: name, and value without its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> {
        let bytes = self.0.as_bytes();
        let text = move |range| String::from_utf8_lossy(&bytes[range]);
        let mut cursor = Cursor::new(bytes);
        std::iter::from_fn(move || cursor.param().ok().flatten())
            .map(move |param| (text(param.name), param.value.map(|value| grammar::unquote(text(value)))))
    }

    /// Sets a parameter, in its place if it was there, else at the end; `None` makes it a flag. A value that is
    /// no token is quoted, except IP addresses and host names, which RFC 3261 §25.1 takes bare.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let mut out = String::with_capacity(self.0.as_bytes().len() + name.len() + 16);
        let mut found = false;
        let bytes = self.0.as_bytes();
        let mut cursor = Cursor::new(bytes);
        while let Ok(Some(param)) = cursor.param() {
            if !bytes[param.name].eq_ignore_ascii_case(name.as_bytes()) {
                out.push_str(&String::from_utf8_lossy(&bytes[param.start..cursor.at]));
            } else if !std::mem::replace(&mut found, true) {
                push(&mut out, name, value);
            }
        }
        if !found {
            push(&mut out, name, value);
        }
        self.0 = Text::from(out);
    }

    /// Sets a parameter to a quoted string, whether or not it needs the quotes.
    pub(crate) fn set_quoted(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0 = Text::from(format!("{};{name}={}", self.0, grammar::quote(value)));
    }

    /// Removes a parameter; true when it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        if !self.contains(name) {
            return false;
        }
        let rest: String =
            self.raw().filter(|(old, _)| !old.eq_ignore_ascii_case(name)).map(|(_, raw)| raw).collect();
        self.0 = Text::from(rest);
        true
    }

    /// The same parameters with one more, or with one set anew.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Params {
        self.set(name, value);
        self
    }

    /// Appends the parameters as they stand.
    pub(crate) fn print(&self, out: &mut String) {
        out.push_str(&self.0.to_str());
    }

    /// Name, and the whole parameter with its semicolon as it came.
    fn raw(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let bytes = self.0.as_bytes();
        let mut cursor = Cursor::new(bytes);
        std::iter::from_fn(move || {
            let param = cursor.param().ok().flatten()?;
            let raw = String::from_utf8_lossy(&bytes[param.start..cursor.at]);
            Some((String::from_utf8_lossy(&bytes[param.name]), raw))
        })
    }
}

fn push(out: &mut String, name: &str, value: Option<&str>) {
    out.push(';');
    out.push_str(name);
    let Some(value) = value else { return };
    out.push('=');
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii() && grammar::is(b, grammar::VALUE)) {
        out.push_str(value);
    } else {
        out.push_str(&grammar::quote(value));
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Shows the names alone: values hold tags, tokens and credentials.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
