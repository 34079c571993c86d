//! The name of a dialog (RFC 3261 §12: Call-ID, local tag, remote tag).

use std::fmt;
use std::sync::Arc;

/// Names one dialog as one side sees it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(Arc<Parts>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    call_id: Box<str>,
    local_tag: Box<str>,
    remote_tag: Box<str>,
}

impl DialogId {
    /// The dialog of these three; a peer after RFC 2543 has the empty tag.
    #[must_use]
    pub fn new(call_id: &str, local_tag: &str, remote_tag: &str) -> Self {
        let [call_id, local_tag, remote_tag] = [call_id, local_tag, remote_tag].map(Box::from);
        Self(Arc::new(Parts { call_id, local_tag, remote_tag }))
    }

    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.0.call_id
    }

    /// Our tag.
    #[must_use]
    pub fn local_tag(&self) -> &str {
        &self.0.local_tag
    }

    /// The peer's tag.
    #[must_use]
    pub fn remote_tag(&self) -> &str {
        &self.0.remote_tag
    }
}

/// Shows the Call-ID alone: with the tags a stranger could end the call.
impl fmt::Debug for DialogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DialogId({})", self.call_id())
    }
}
