//! The headers that name a dialog by its Call-ID and two tags: `Replaces` (RFC 3891 §6.1) and `Target-Dialog`
//! (RFC 4538 §7). Both tags are seen from whoever receives the request.

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::dialog::DialogId;
use crate::message::grammar::{self, Why};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

/// The dialog that an INVITE takes the place of: `425928@bobster.example;to-tag=7743;from-tag=6472`.
#[derive(Clone, PartialEq, Eq)]
pub struct Replaces {
    call_id: Text,
    /// `to-tag`, `from-tag`, `early-only` and whatever else stands behind the Call-ID.
    pub params: Params,
}

/// The dialog that shows that the sender may do what it asks.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetDialog {
    call_id: Text,
    /// `local-tag`, `remote-tag` and whatever else stands behind the Call-ID.
    pub params: Params,
}

impl Replaces {
    /// Asks the peer of one of our dialogs, or whom that peer is told by REFER, to put a new call in its place: the
    /// peer's tag becomes `to-tag`, ours `from-tag`.
    #[must_use]
    pub fn of_peer(dialog: &DialogId) -> Replaces {
        let params = Params::EMPTY
            .with("to-tag", Some(dialog.remote_tag()))
            .with("from-tag", Some(dialog.local_tag()));
        Replaces { call_id: Text::from(dialog.call_id()), params }
    }

    /// The same, to be refused where the dialog has been answered.
    #[must_use]
    pub fn early_only(mut self) -> Replaces {
        self.params.set("early-only", None);
        self
    }

    /// Reads the value that a `Replaces` in a URI has, its escapes decoded.
    ///
    /// # Errors
    /// A phrase saying what is wrong with it.
    pub fn parse(text: impl Into<Text>) -> Result<Replaces, &'static str> {
        let text = text.into();
        let (call_id, params) = split(&text)?;
        if params.value("to-tag").is_none() || params.value("from-tag").is_none() {
            return Err("lacks to-tag or from-tag");
        }
        Ok(Replaces { call_id, params })
    }

    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> Cow<'_, str> {
        self.call_id.to_str()
    }

    /// The dialog as its receiver names it. A tag of `0` also stands for none, as of a peer after RFC 2543.
    #[must_use]
    pub fn dialog(&self) -> DialogId {
        let [local, remote] = ["to-tag", "from-tag"].map(|name| self.params.value(name).unwrap_or_default());
        DialogId::new(&self.call_id(), &local, &remote)
    }

    /// True where a dialog that has been answered is to be left alone.
    #[must_use]
    pub fn is_early_only(&self) -> bool {
        self.params.contains("early-only")
    }
}

impl TargetDialog {
    /// Names one of our dialogs to its peer.
    #[must_use]
    pub fn of_peer(dialog: &DialogId) -> TargetDialog {
        let params = Params::EMPTY
            .with("local-tag", Some(dialog.remote_tag()))
            .with("remote-tag", Some(dialog.local_tag()));
        TargetDialog { call_id: Text::from(dialog.call_id()), params }
    }

    /// The dialog as its receiver names it.
    #[must_use]
    pub fn dialog(&self) -> DialogId {
        let tag = |name| self.params.value(name).unwrap_or_default();
        DialogId::new(&self.call_id.to_str(), &tag("local-tag"), &tag("remote-tag"))
    }
}

/// The Call-ID up to the first semicolon, and the parameters.
fn split(text: &Text) -> Result<(Text, Params), Why> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&b| b == b';').unwrap_or(bytes.len());
    let call_id = grammar::trim(&bytes[..end]);
    super::check_call_id(&bytes[call_id.clone()])?;
    let params = Params::parse(Text::from(text.bytes().slice(end..)))?;
    Ok((Text::from(text.bytes().slice(call_id)), params))
}

impl TypedHeader for Replaces {
    const NAME: HeaderName = HeaderName::REPLACES;

    fn read(values: &mut Values<'_>) -> Option<Result<Replaces, &'static str>> {
        values.line().map(Replaces::parse)
    }
}

impl TypedHeader for TargetDialog {
    const NAME: HeaderName = HeaderName::TARGET_DIALOG;

    fn read(values: &mut Values<'_>) -> Option<Result<TargetDialog, &'static str>> {
        values.line().map(|text| split(&text).map(|(call_id, params)| TargetDialog { call_id, params }))
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.call_id, self.params)
    }
}

impl fmt::Display for TargetDialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.call_id, self.params)
    }
}

/// Hides the tags: whoever knows them can take the call over.
impl fmt::Debug for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replaces({})", self.call_id)
    }
}

/// Hides the tags, as [`Replaces`] does.
impl fmt::Debug for TargetDialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetDialog({})", self.call_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn what_one_side_names_is_the_dialog_as_the_other_side_sees_it() {
        let (ours, theirs) = (DialogId::new("c1@host", "us", "them"), DialogId::new("c1@host", "them", "us"));
        let mut headers = Headers::new();
        headers.push_typed(&Replaces::of_peer(&ours).early_only());
        headers.push_typed(&TargetDialog::of_peer(&ours));
        let replaces: Replaces = headers.typed().unwrap();
        assert_eq!(replaces.to_string(), "c1@host;to-tag=them;from-tag=us;early-only");
        assert!(replaces.is_early_only());
        assert_eq!(replaces.dialog(), theirs);
        assert_eq!(headers.typed::<TargetDialog>().unwrap().dialog(), theirs);
    }

    #[test]
    fn a_replaces_without_both_tags_or_a_call_id_is_malformed() {
        for value in ["c1@host", "c1;to-tag=a", ";to-tag=a;from-tag=b", "two words;to-tag=a;from-tag=b"] {
            assert!(Replaces::parse(value).is_err(), "{value}");
        }
        assert!(Replaces::parse("c1 ; from-tag=b;to-tag=a").is_ok(), "in any order");
    }
}
