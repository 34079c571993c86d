//! What the headers that are one number have in common.

macro_rules! number_header {
    ($(#[$doc:meta])* $name:ident($number:ty), $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $number);

        impl $crate::message::header::TypedHeader for $name {
            const NAME: $crate::message::HeaderName = $crate::message::HeaderName::$constant;

            fn read(values: &mut $crate::message::header::Values<'_>) -> Option<Result<$name, &'static str>> {
                let number = $crate::message::grammar::number(values.line_slice()?.bytes(), <$number>::MAX.into());
                Some(number.map(|number| $name(number as $number)))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

pub(super) use number_header;
