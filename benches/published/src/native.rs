//! The C libraries of the system: spandsp, libavcodec, libswresample, speexdsp, soxr, libsrtp and libopus, called
//! through `native/peers.c`.

use std::ffi::{CStr, c_char, c_int, c_void};

/// What a library keeps for one stream. Never freed: a bench ends soon.
type State = *mut c_void;
type Encode = unsafe extern "C" fn(State, *mut u8, *const i16, c_int) -> c_int;
type Decode = unsafe extern "C" fn(State, *mut i16, *const u8, c_int) -> c_int;
type Resample = unsafe extern "C" fn(State, *const i16, c_int, *mut i16, c_int) -> c_int;
type Cipher = unsafe extern "C" fn(State, *mut u8, c_int) -> c_int;

unsafe extern "C" {
    fn spandsp_g711(law: c_char) -> State;
    fn spandsp_g711_encode(state: State, out: *mut u8, pcm: *const i16, count: c_int) -> c_int;
    fn spandsp_g711_decode(state: State, pcm: *mut i16, octets: *const u8, count: c_int) -> c_int;
    fn spandsp_g722_encoder() -> State;
    fn spandsp_g722_decoder() -> State;
    fn spandsp_g722_encode(state: State, out: *mut u8, pcm: *const i16, count: c_int) -> c_int;
    fn spandsp_g722_decode(state: State, pcm: *mut i16, octets: *const u8, count: c_int) -> c_int;
    fn avcodec_encoder(name: *const c_char, rate: c_int) -> State;
    fn avcodec_decoder(name: *const c_char, rate: c_int) -> State;
    fn avcodec_encode(state: State, out: *mut u8, pcm: *const i16, count: c_int) -> c_int;
    fn avcodec_decode(state: State, pcm: *mut i16, octets: *const u8, count: c_int) -> c_int;
    fn libopus_encoder() -> State;
    fn libopus_decoder() -> State;
    fn libopus_encode(state: State, out: *mut u8, pcm: *const i16, count: c_int) -> c_int;
    fn libopus_decode(state: State, pcm: *mut i16, octets: *const u8, count: c_int) -> c_int;
    fn speexdsp_resampler(from: c_int, to: c_int, quality: c_int) -> State;
    fn speexdsp_resample(state: State, pcm: *const i16, count: c_int, out: *mut i16, room: c_int) -> c_int;
    fn soxr_hq(from: c_int, to: c_int) -> State;
    fn soxr_resample(state: State, pcm: *const i16, count: c_int, out: *mut i16, room: c_int) -> c_int;
    fn swr_default(from: c_int, to: c_int) -> State;
    fn swr_resample(state: State, pcm: *const i16, count: c_int, out: *mut i16, room: c_int) -> c_int;
    fn speexdsp_jitter(step: c_int) -> State;
    fn speexdsp_jitter_step(
        state: State,
        payload: *const u8,
        length: c_int,
        timestamp: c_int,
        span: c_int,
        out: *mut u8,
    ) -> c_int;
    fn libsrtp_session(suite: c_int, key: *const u8, inbound: c_int) -> State;
    fn libsrtp_protect(session: State, packet: *mut u8, length: c_int) -> c_int;
    fn libsrtp_unprotect(session: State, packet: *mut u8, length: c_int) -> c_int;
}

fn made(state: State) -> State {
    assert!(!state.is_null(), "the library does not make it");
    state
}

fn done(count: c_int) -> usize {
    usize::try_from(count).expect("the library does its work")
}

fn int(count: usize) -> c_int {
    c_int::try_from(count).expect("a frame")
}

/// One coder of a C library.
pub struct Encoder(State, Encode);

impl Encoder {
    /// G.711 of spandsp; the law is `u` or `a`.
    pub fn spandsp_g711(law: u8) -> Self {
        // SAFETY: takes a number.
        Self(made(unsafe { spandsp_g711(law as c_char) }), spandsp_g711_encode)
    }

    /// G.722 at 64 kbit/s of spandsp.
    pub fn spandsp_g722() -> Self {
        // SAFETY: takes nothing.
        Self(made(unsafe { spandsp_g722_encoder() }), spandsp_g722_encode)
    }

    /// A codec of libavcodec by its name there.
    pub fn avcodec(name: &CStr, rate: u32) -> Self {
        // SAFETY: the name ends in a NUL.
        Self(made(unsafe { avcodec_encoder(name.as_ptr(), rate as c_int) }), avcodec_encode)
    }

    /// The system's libopus at 16 kHz, 20 kbit/s, complexity 5.
    pub fn libopus() -> Self {
        // SAFETY: takes nothing.
        Self(made(unsafe { libopus_encoder() }), libopus_encode)
    }

    /// The length of what one frame becomes.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> usize {
        assert!(out.len() >= pcm.len().max(1_500), "room for any packet");
        // SAFETY: the state is this function's, and no codec here makes more than an octet of a sample or 1,500 in all.
        done(unsafe { self.1(self.0, out.as_mut_ptr(), pcm.as_ptr(), int(pcm.len())) })
    }
}

/// One decoder of a C library.
pub struct Decoder(State, Decode);

impl Decoder {
    /// G.711 of spandsp; the law is `u` or `a`.
    pub fn spandsp_g711(law: u8) -> Self {
        // SAFETY: takes a number.
        Self(made(unsafe { spandsp_g711(law as c_char) }), spandsp_g711_decode)
    }

    /// G.722 at 64 kbit/s of spandsp.
    pub fn spandsp_g722() -> Self {
        // SAFETY: takes nothing.
        Self(made(unsafe { spandsp_g722_decoder() }), spandsp_g722_decode)
    }

    /// A codec of libavcodec by its name there.
    pub fn avcodec(name: &CStr, rate: u32) -> Self {
        // SAFETY: the name ends in a NUL.
        Self(made(unsafe { avcodec_decoder(name.as_ptr(), rate as c_int) }), avcodec_decode)
    }

    /// The system's libopus, to 16 kHz.
    pub fn libopus() -> Self {
        // SAFETY: takes nothing.
        Self(made(unsafe { libopus_decoder() }), libopus_decode)
    }

    /// The samples that one packet becomes.
    pub fn decode(&mut self, octets: &[u8], out: &mut [i16]) -> usize {
        assert!(out.len() >= (octets.len() * 2).max(320), "room for any frame");
        // SAFETY: the state is this function's, and no codec here makes more than two samples of an octet or 320 in all.
        done(unsafe { self.1(self.0, out.as_mut_ptr(), octets.as_ptr(), int(octets.len())) })
    }
}

/// One resampler of a C library.
pub struct Resampler(State, Resample);

impl Resampler {
    /// speexdsp of a quality, 0 to 10.
    pub fn speexdsp(from: u32, to: u32, quality: i32) -> Self {
        // SAFETY: takes numbers.
        Self(made(unsafe { speexdsp_resampler(from as c_int, to as c_int, quality) }), speexdsp_resample)
    }

    /// soxr, high quality.
    pub fn soxr(from: u32, to: u32) -> Self {
        // SAFETY: takes numbers.
        Self(made(unsafe { soxr_hq(from as c_int, to as c_int) }), soxr_resample)
    }

    /// libswresample as it comes.
    pub fn swresample(from: u32, to: u32) -> Self {
        // SAFETY: takes numbers.
        Self(made(unsafe { swr_default(from as c_int, to as c_int) }), swr_resample)
    }

    /// How many samples came out.
    pub fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> usize {
        // SAFETY: the state is this function's, which writes no more than there is room.
        done(unsafe { self.1(self.0, pcm.as_ptr(), int(pcm.len()), out.as_mut_ptr(), int(out.len())) })
    }
}

/// The jitter buffer of speexdsp.
pub struct Jitter(State);

impl Jitter {
    /// Timestamps go on by `step`.
    pub fn speexdsp(step: u32) -> Self {
        // SAFETY: takes a number.
        Self(made(unsafe { speexdsp_jitter(step as c_int) }))
    }

    /// One packet in and one out, of this length.
    pub fn step(&mut self, payload: &[u8], timestamp: u32, span: u32, out: &mut [u8; 2_048]) -> usize {
        let (length, timestamp) = (int(payload.len()), timestamp.cast_signed());
        // SAFETY: the state is a jitter buffer, and the room is what the function says it is.
        done(unsafe {
            speexdsp_jitter_step(self.0, payload.as_ptr(), length, timestamp, span as c_int, out.as_mut_ptr())
        })
    }
}

/// A session of libsrtp in one direction.
pub struct Srtp(State, Cipher);

impl Srtp {
    /// What is sent; `gcm` for AEAD_AES_128_GCM (28 octets of key and salt), else AES_CM_128_HMAC_SHA1_80 (30).
    pub fn outgoing(gcm: bool, key: &[u8; 30]) -> Self {
        // SAFETY: no suite reads more than 30 octets of the key.
        Self(made(unsafe { libsrtp_session(gcm.into(), key.as_ptr(), 0) }), libsrtp_protect)
    }

    /// What is received.
    pub fn incoming(gcm: bool, key: &[u8; 30]) -> Self {
        // SAFETY: no suite reads more than 30 octets of the key.
        Self(made(unsafe { libsrtp_session(gcm.into(), key.as_ptr(), 1) }), libsrtp_unprotect)
    }

    /// Protects or opens the packet in place, and answers its new length.
    pub fn pass(&mut self, buffer: &mut [u8], length: usize) -> usize {
        assert!(buffer.len() >= length + 32, "room for the tag");
        // SAFETY: the session is this function's, and a tag has at most 16 octets.
        done(unsafe { self.1(self.0, buffer.as_mut_ptr(), int(length)) })
    }
}
