//! libopus 1.6 behind [`Backend`], by the bindings of opusic-sys: all calls into C are in this file.
//!
//! An encoder or decoder is memory of libopus behind a pointer, which this file alone holds: made in `encoder` or
//! `decoder`, used through `&mut`, freed on drop. The library keeps no state outside of it and takes its temporary
//! memory from the stack, so a call allocates nothing.
// FFI: the calls cannot be made otherwise. Each states what makes it sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

use opusic_sys as ffi;

use super::{Backend, BackendDecoder, BackendEncoder, EncoderSetup, OPUS};
use crate::codec::CodecError;

/// libopus, as the `opusic-sys` in use builds it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Libopus;

impl Libopus {
    /// The library's name and version, for example `libopus 1.6.1`.
    pub fn version() -> &'static str {
        // SAFETY: the function takes nothing and gives a string that lives as long as the program.
        text(unsafe { ffi::opus_get_version_string() })
    }
}

impl Backend for Libopus {
    fn encoder(&self, setup: &EncoderSetup) -> Result<Box<dyn BackendEncoder>, CodecError> {
        let mut encoder = LibopusEncoder::new(setup.sample_rate, setup.channels)?;
        for (request, value) in [
            (ffi::OPUS_SET_BITRATE_REQUEST, c_int::try_from(setup.bitrate).unwrap_or(c_int::MAX)),
            (ffi::OPUS_SET_COMPLEXITY_REQUEST, setup.complexity.into()),
            (ffi::OPUS_SET_SIGNAL_REQUEST, ffi::OPUS_SIGNAL_VOICE),
            (ffi::OPUS_SET_MAX_BANDWIDTH_REQUEST, bandwidth(setup.max_playback_rate)),
            (ffi::OPUS_SET_VBR_REQUEST, (!setup.constant_bitrate).into()),
            (ffi::OPUS_SET_INBAND_FEC_REQUEST, setup.in_band_fec.into()),
            (ffi::OPUS_SET_DTX_REQUEST, setup.dtx.into()),
            (ffi::OPUS_SET_PACKET_LOSS_PERC_REQUEST, setup.expected_loss.into()),
        ] {
            encoder.set(request, value).map_err(|error| refused("setting up an encoder", error))?;
        }
        Ok(Box::new(encoder))
    }

    fn decoder(&self, sample_rate: u32, channels: u8) -> Result<Box<dyn BackendDecoder>, CodecError> {
        Ok(Box::new(LibopusDecoder::new(sample_rate, channels)?))
    }
}

/// The widest band that is worth sending to a far side that plays up to this rate (RFC 7587 §6.1).
fn bandwidth(max_playback_rate: u32) -> c_int {
    match max_playback_rate {
        ..12_000 => ffi::OPUS_BANDWIDTH_NARROWBAND,
        12_000..16_000 => ffi::OPUS_BANDWIDTH_MEDIUMBAND,
        16_000..24_000 => ffi::OPUS_BANDWIDTH_WIDEBAND,
        24_000..48_000 => ffi::OPUS_BANDWIDTH_SUPERWIDEBAND,
        _ => ffi::OPUS_BANDWIDTH_FULLBAND,
    }
}

fn refused(what: &'static str, error: c_int) -> CodecError {
    // SAFETY: the function takes any number and gives a string that lives as long as the program.
    CodecError::Library { codec: OPUS.name, what, why: text(unsafe { ffi::opus_strerror(error) }) }
}

fn text(string: *const std::ffi::c_char) -> &'static str {
    // SAFETY: both callers hand over a C string of static storage in the library, ended by a zero.
    unsafe { CStr::from_ptr(string) }.to_str().unwrap_or("unreadable")
}

fn length<T>(slice: &[T], channels: u8) -> c_int {
    c_int::try_from(slice.len() / usize::from(channels)).unwrap_or(c_int::MAX)
}

struct LibopusEncoder {
    state: NonNull<ffi::OpusEncoder>,
    channels: u8,
}

// SAFETY: the state is this value's alone, and the library ties it to no thread.
unsafe impl Send for LibopusEncoder {}

impl LibopusEncoder {
    fn new(sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let (rate, mut error) = (sample_rate.cast_signed(), 0);
        // SAFETY: wrong rates and channel numbers are reported, and `error` is written within the call.
        let state = unsafe {
            ffi::opus_encoder_create(rate, channels.into(), ffi::OPUS_APPLICATION_VOIP, &raw mut error)
        };
        let state = NonNull::new(state).ok_or_else(|| refused("making an encoder", error))?;
        Ok(Self { state, channels })
    }

    fn set(&mut self, request: c_int, value: c_int) -> Result<(), c_int> {
        // SAFETY: the state is alive, and every request that is made here takes one 32-bit integer.
        match unsafe { ffi::opus_encoder_ctl(self.state.as_ptr(), request, value) } {
            ffi::OPUS_OK => Ok(()),
            error => Err(error),
        }
    }
}

impl BackendEncoder for LibopusEncoder {
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let (frame, room) = (length(pcm, self.channels), length(out, 1));
        // SAFETY: the state is alive; it reads `frame` samples per channel of `pcm` and writes at most `room` octets.
        let written =
            unsafe { ffi::opus_encode(self.state.as_ptr(), pcm.as_ptr(), frame, out.as_mut_ptr(), room) };
        usize::try_from(written).map_err(|_| refused("encoding a frame", written))
    }

    fn set_expected_loss(&mut self, percent: u8) {
        let set = self.set(ffi::OPUS_SET_PACKET_LOSS_PERC_REQUEST, percent.into());
        debug_assert_eq!(set, Ok(()), "0 to 100 are taken");
    }
}

impl Drop for LibopusEncoder {
    fn drop(&mut self) {
        // SAFETY: the state came from `opus_encoder_create`, and nobody has it after this.
        unsafe { ffi::opus_encoder_destroy(self.state.as_ptr()) };
    }
}

struct LibopusDecoder {
    state: NonNull<ffi::OpusDecoder>,
    channels: u8,
}

// SAFETY: as for the encoder.
unsafe impl Send for LibopusDecoder {}

impl LibopusDecoder {
    fn new(sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let (rate, mut error) = (sample_rate.cast_signed(), 0);
        // SAFETY: wrong rates and channel numbers are reported, and `error` is written within the call.
        let state = unsafe { ffi::opus_decoder_create(rate, channels.into(), &raw mut error) };
        let state = NonNull::new(state).ok_or_else(|| refused("making a decoder", error))?;
        Ok(Self { state, channels })
    }

    /// Samples per channel, or the library's error. Without a payload it makes up what may have come.
    fn run(&mut self, payload: Option<&[u8]>, out: &mut [i16], copy: bool) -> c_int {
        let (data, octets) =
            payload.map_or((ptr::null(), 0), |payload| (payload.as_ptr(), length(payload, 1)));
        let room = length(out, self.channels);
        // SAFETY: the state is alive; it reads `octets` of the payload, or none where `data` is null, which stands for
        // a lost packet, and writes at most `room` samples per channel.
        unsafe { ffi::opus_decode(self.state.as_ptr(), data, octets, out.as_mut_ptr(), room, copy.into()) }
    }
}

impl BackendDecoder for LibopusDecoder {
    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let decoded = self.run(Some(payload), out, false);
        let samples = usize::try_from(decoded).map_err(|_| CodecError::Malformed { codec: OPUS.name })?;
        Ok(samples * usize::from(self.channels))
    }

    fn conceal(&mut self, out: &mut [i16]) -> bool {
        self.run(None, out, false) > 0
    }

    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> bool {
        // SAFETY: it reads the payload, of which the length is given.
        let copies = unsafe { ffi::opus_packet_has_lbrr(next_payload.as_ptr(), length(next_payload, 1)) };
        copies == 1 && self.run(Some(next_payload), out, true) > 0
    }

    fn reset(&mut self) {
        // SAFETY: the state is alive, and this request takes no argument.
        let reset = unsafe { ffi::opus_decoder_ctl(self.state.as_ptr(), ffi::OPUS_RESET_STATE) };
        debug_assert_eq!(reset, ffi::OPUS_OK, "a reset cannot fail");
    }

    fn final_range(&mut self) -> Option<u32> {
        let mut range = 0u32;
        // SAFETY: the state is alive, and this request takes a pointer to an unsigned 32-bit integer, which is written
        // within the call.
        let got = unsafe {
            ffi::opus_decoder_ctl(self.state.as_ptr(), ffi::OPUS_GET_FINAL_RANGE_REQUEST, &raw mut range)
        };
        (got == ffi::OPUS_OK).then_some(range)
    }
}

impl Drop for LibopusDecoder {
    fn drop(&mut self) {
        // SAFETY: the state came from `opus_decoder_create`, and nobody has it after this.
        unsafe { ffi::opus_decoder_destroy(self.state.as_ptr()) };
    }
}
