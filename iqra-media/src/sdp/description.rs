//! An SDP as it was written: parsed, and printed again (RFC 8866 §5).
//!
//! Reading is lenient in form: lines may end in LF, the last one may lack its end, blank lines, trailing blanks and
//! NULs are passed over, bytes that are not UTF-8 are replaced, `o=`, `s=` and `t=` may be missing; lines of unknown
//! types are ignored, as the RFC asks. So its values are less than what came, and a description keeps that too: one that
//! nobody changed prints octet for octet as it was written. One that was changed, or made here, prints its values.

use std::borrow::Cow;
use std::fmt;

use sdp_types::Session;

use super::{Audio, Refusal};

/// How much of an SDP is read. More is refused with 400 before anything is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets. Default 16,384: a browser's offer of audio and video has some 8,000.
    pub octets: usize,
    /// m-lines. Default 32.
    pub streams: usize,
    /// Attributes of one m-line, or of the session. Default 512.
    pub attributes: usize,
    /// Formats of one m-line. Default 128, the RTP payload types that there are.
    pub formats: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { octets: 16 * 1024, streams: 32, attributes: 512, formats: 128 }
    }
}

impl Limits {
    /// For what we wrote ourselves.
    pub(super) const NONE: Self =
        Self { octets: usize::MAX, streams: usize::MAX, attributes: usize::MAX, formats: usize::MAX };

    fn check(&self, session: &Session) -> Result<(), Refusal> {
        let too_large = |what, most: usize| Err(Refusal::TooLarge(format!("more than {most} {what}")));
        let attributes = session.medias.iter().map(|m| m.attributes.len()).max().unwrap_or(0);
        let formats = session.medias.iter().map(|m| m.fmt.split_ascii_whitespace().count()).max();
        if session.medias.len() > self.streams {
            return too_large("m-lines", self.streams);
        }
        if attributes.max(session.attributes.len()) > self.attributes {
            return too_large("attributes of one m-line", self.attributes);
        }
        if formats.unwrap_or(0) > self.formats {
            return too_large("formats of one m-line", self.formats);
        }
        Ok(())
    }
}

/// A session description. Two are equal when their values are, however they were written.
#[derive(Clone)]
pub struct Description {
    pub(super) session: Session,
    /// As it came, while its values are those.
    written: Option<Box<[u8]>>,
}

/// One that is made here.
impl From<Session> for Description {
    fn from(session: Session) -> Self {
        Self { session, written: None }
    }
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.session == other.session
    }
}

impl Eq for Description {}

impl Description {
    /// Reads an SDP within the default [`Limits`].
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::parse_within(bytes, &Limits::default())
    }

    /// Reads an SDP within these limits.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::TooLarge`].
    pub fn parse_within(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        if bytes.len() > limits.octets {
            return Err(Refusal::TooLarge(format!("more than {} octets", limits.octets)));
        }
        let parsed = Session::parse(tidied(bytes).as_bytes());
        let session = parsed.map_err(|error| Refusal::Malformed(error.to_string()))?;
        limits.check(&session)?;
        Ok(Self { session, written: Some(bytes.into()) })
    }

    /// The lines as values, in the model of `sdp-types`.
    pub fn model(&self) -> &Session {
        &self.session
    }

    /// The values, to be changed. From here on they are what is printed: in the order and with the line ends of RFC 8866,
    /// without what reading passed over, and times of `r=` and `z=` in their largest unit.
    pub fn model_mut(&mut self) -> &mut Session {
        self.written = None;
        &mut self.session
    }

    /// The description as octets: as it was read, or as its values are printed.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match &self.written {
            Some(written) => Cow::Borrowed(written),
            None => Cow::Owned(printed(&self.session)),
        }
    }

    /// The audio streams that are not switched off by port 0 (RFC 3264 §5.1), with their index among the m-lines.
    pub(super) fn audio(&self) -> impl Iterator<Item = (usize, Audio<'_>)> {
        (0..self.session.medias.len()).filter_map(|index| Some((index, self.audio_at(index)?)))
    }

    /// The m-line of this index, if it is one of live audio.
    pub(super) fn audio_at(&self, index: usize) -> Option<Audio<'_>> {
        let media = self.session.medias.get(index)?;
        let live = media.media.eq_ignore_ascii_case("audio") && media.port != 0;
        live.then_some(Audio { session: &self.session, media })
    }
}

/// The same as text; octets that are not UTF-8 are replaced.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// Without the text: it may hold keys.
impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description").field("streams", &self.session.medias.len()).finish_non_exhaustive()
    }
}

fn printed(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    session.write(&mut bytes).expect("memory takes what is written");
    bytes
}

/// Text with clean line ends: no blank lines, no trailing blanks or NULs.
fn tidied(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split(['\n', '\r']).map(|line| line.trim_end_matches([' ', '\t', '\0']));
    let mut out = String::with_capacity(text.len() + 2);
    for line in lines.filter(|line| !line.is_empty()) {
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}
