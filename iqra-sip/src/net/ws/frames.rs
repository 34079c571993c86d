//! How far a WebSocket peer is within a message: its frames (RFC 6455 §5.2) are followed as they are read, so that a
//! message that does not become whole in time ends its connection, whatever pings and pongs come between its fragments.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The longest header of a frame: two octets, eight of length, four of a mask.
const HEADER: usize = 14;
/// What ends the head of the handshake.
const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// A stream whose reads fail once a message takes longer than its time, from its first octet on. It is given before the
/// handshake, which has a time of its own.
pub(in crate::net) struct Timed<S> {
    stream: S,
    frames: Frames,
    limit: Duration,
    /// Runs while a message is open.
    end: Pin<Box<Sleep>>,
    is_late: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, frames: Frames::default(), limit, end: Box::pin(sleep(limit)), is_late: false }
    }

    /// True once a read has failed for a message that was not whole in time.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.frames.is_open() && this.end.as_mut().poll(cx).is_ready() {
            this.is_late = true;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if this.frames.read(&buf.filled()[before..]) {
            this.end.as_mut().reset(Instant::now() + this.limit);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where the peer is: within the handshake, a frame, a message in fragments, or between messages.
#[derive(Debug, Default)]
struct Frames {
    /// Octets of [`EMPTY_LINE`] that were read; all of them, and frames follow.
    handshake: usize,
    header: [u8; HEADER],
    /// Octets of the header that were read; 0 between frames.
    filled: usize,
    /// Octets of the payload that are still to come.
    left: u64,
    /// The message goes on in another frame.
    fragmented: bool,
}

impl Frames {
    /// A frame has begun, or a message in fragments has not ended.
    fn is_open(&self) -> bool {
        self.filled > 0 || self.fragmented
    }

    /// Takes what was read; true where a message began in it that does not end in it.
    fn read(&mut self, octets: &[u8]) -> bool {
        let mut octets = self.skip_handshake(octets);
        let mut began = false;
        while !octets.is_empty() {
            began |= !self.is_open();
            octets = self.step(octets);
            began &= self.is_open();
        }
        began
    }

    fn skip_handshake<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        let mut octets = octets.iter();
        while self.handshake < EMPTY_LINE.len() {
            let Some(&octet) = octets.next() else { break };
            self.handshake = match octet {
                _ if octet == EMPTY_LINE[self.handshake] => self.handshake + 1,
                b'\r' => 1,
                _ => 0,
            };
        }
        octets.as_slice()
    }

    /// Takes one octet of a header, or what there is of a payload; gives the rest back.
    fn step<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        if self.left == 0 {
            self.header[self.filled] = octets[0];
            self.filled += 1;
            if self.filled >= 2 && self.filled == self.header_length() {
                self.left = self.payload_length();
                self.end_frame();
            }
            return &octets[1..];
        }
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(octets.len());
        self.left -= taken as u64;
        self.end_frame();
        &octets[taken..]
    }

    fn header_length(&self) -> usize {
        let length = match self.header[1] & 0b0111_1111 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0b1000_0000 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let header = &self.header;
        match header[1] & 0b0111_1111 {
            126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
            127 => header[2..10].iter().fold(0, |length, octet| length << 8 | u64::from(*octet)),
            length => u64::from(length),
        }
    }

    /// Ends the frame if it is whole. Control frames, from opcode 8 on, leave a message in fragments open (§5.4).
    fn end_frame(&mut self) {
        if self.left > 0 {
            return;
        }
        self.filled = 0;
        if self.header[0] & 0b0000_1111 < 8 {
            self.fragmented = self.header[0] & 0b1000_0000 == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const PONG: &[u8] = &[0b1000_1010, 0b1000_0000, 1, 2, 3, 4];

    fn following() -> Frames {
        Frames { handshake: EMPTY_LINE.len(), ..Frames::default() }
    }

    /// A masked frame of this opcode, with this many octets in it.
    fn frame(fin: bool, opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![u8::from(fin) << 7 | opcode];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65_536 => frame.extend([&[0x80 | 126][..], &(length as u16).to_be_bytes()].concat()),
            _ => frame.extend([&[0x80 | 127][..], &(length as u64).to_be_bytes()].concat()),
        }
        frame.extend([1, 2, 3, 4]);
        frame.resize(frame.len() + length, b'x');
        frame
    }

    #[test]
    fn a_frame_of_any_length_is_open_until_its_last_octet_however_it_is_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = frame(true, 1, length);
            for at in [1, 2, 5, frame.len() - 1] {
                let mut frames = following();
                assert!(frames.read(&frame[..at]) && frames.is_open(), "{length} cut at {at}");
                assert!(!frames.read(&frame[at..]) && !frames.is_open(), "{length} cut at {at}");
            }
        }
    }

    #[test]
    fn a_message_in_fragments_stays_open_over_control_frames_until_its_last_fragment() {
        let mut frames = following();
        assert!(frames.read(&frame(false, 1, 9)), "it begins");
        assert!(!frames.read(PONG) && frames.is_open(), "it began before");
        assert!(!frames.read(&frame(false, 0, 9)) && frames.is_open());
        assert!(!frames.read(&frame(true, 0, 9)) && !frames.is_open());
        assert!(!frames.read(&[PONG, PONG].concat()) && !frames.is_open());
        let next = [frame(true, 2, 9), frame(true, 2, 9)[..3].to_vec()].concat();
        assert!(frames.read(&next), "behind a whole one");
    }

    #[test]
    fn frames_begin_behind_the_empty_line_of_the_handshake() {
        let mut frames = Frames::default();
        assert!(!frames.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r") && !frames.is_open());
        assert!(frames.read(&[b"\n", &PONG[..2]].concat()));
        assert!(!frames.read(&PONG[2..]) && !frames.is_open());
    }

    async fn read(stream: &mut Timed<DuplexStream>) -> io::Result<usize> {
        stream.read(&mut [0; 64]).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_has_its_time_from_its_first_octet_and_silence_between_messages_has_none() {
        let (mut peer, stream) = duplex(64);
        let mut stream = Timed::new(stream, LIMIT);
        stream.frames = following();
        peer.write_all(PONG).await.unwrap();
        read(&mut stream).await.unwrap();
        assert!(tokio::time::timeout(LIMIT * 3, read(&mut stream)).await.is_err(), "nothing is open");
        peer.write_all(&frame(false, 1, 3)).await.unwrap();
        let start = Instant::now();
        read(&mut stream).await.unwrap();
        assert!(tokio::time::timeout(LIMIT * 2 / 3, read(&mut stream)).await.is_err(), "not yet");
        peer.write_all(PONG).await.unwrap();
        read(&mut stream).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(stream.is_late() && start.elapsed().as_secs() == LIMIT.as_secs());
    }
}
