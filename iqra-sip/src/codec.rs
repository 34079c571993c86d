//! [`Framer`] as a codec of `tokio_util`, for streams: octets in, [`Frame`]s out, and back.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::framing::{Frame, Framer};
use crate::message::{Limits, ParseError};

/// Decodes and encodes [`Frame`]s. After an error the stream cannot be read on: close it.
#[derive(Debug, Clone, Default)]
pub struct SipCodec {
    framer: Framer,
}

impl SipCodec {
    /// A codec with limits of one's own.
    #[must_use]
    pub fn new(limits: Limits) -> SipCodec {
        SipCodec { framer: Framer::new(limits) }
    }
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what cannot be framed.
    #[error("the peer sent what is no message: {0}")]
    Parse(#[from] ParseError),
}

impl Decoder for SipCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(self.framer.next_frame(buffer)?)
    }
}

impl Encoder<Frame> for SipCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        match frame {
            Frame::Message(bytes) => out.put(bytes),
            Frame::Ping => out.put_slice(b"\r\n\r\n"),
            Frame::Pong => out.put_slice(b"\r\n"),
        }
        Ok(())
    }
}
