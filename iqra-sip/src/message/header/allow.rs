//! `Allow`: the methods that a party takes (RFC 3261 §20.5).

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::method::Method;
use crate::message::name::HeaderName;

/// All methods of all Allow lines. May be empty: none is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow(pub Vec<Method>);

impl TypedHeader for Allow {
    const NAME: HeaderName = HeaderName::ALLOW;

    fn read(values: &mut Values<'_>) -> Option<Result<Allow, &'static str>> {
        let present = values.any();
        let mut methods = Vec::new();
        while let Some(name) = values.element() {
            match Method::from_token(name.bytes()) {
                Some(method) => methods.push(method),
                None => return Some(Err("lists something that is no method")),
            }
        }
        present.then_some(Ok(Allow(methods)))
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}
