//! A conversation of one's own, the part that an AI plays in a call, run on a line without a network.
//!
//! It listens until the caller has said something and fallen silent, says the same back, and is done.
//!
//! Run: `cargo run -p iqra-media --example conversation`. Expected:
//! ```text
//! the caller speaks for 500 ms at 440 Hz
//! the conversation says back 500 ms at 440 Hz
//! then it hangs up: Completed
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use async_trait::async_trait;
use iqra_media::conversation::{
    AudioFormat, Command, ConversationSink, Formats, Heard, Limits, Line, SinkError, line, run,
};
use iqra_media::detect::goertzel::strongest;
use iqra_media::pcm::tone::Tone;
use iqra_media::sdp::Negotiated;

/// What an AI would want: 16 kHz both ways, whatever the telephone's codec is.
const FORMAT: AudioFormat = AudioFormat::HZ_16000;

struct Parrot;

#[async_trait]
impl ConversationSink for Parrot {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(FORMAT)
    }

    async fn converse(self: Box<Self>, mut line: Line) -> Result<(), SinkError> {
        let (mut said, mut quiet) = (Vec::new(), 0);
        while let Some(heard) = line.next().await {
            match heard {
                Heard::Audio(frame) if frame.iter().any(|sample| sample.abs() > 500) => {
                    said.extend_from_slice(&frame);
                    quiet = 0;
                }
                Heard::Audio(frame) => quiet += frame.len(),
                Heard::Event(event) => println!("{event:?}"),
            }
            if !said.is_empty() && quiet >= FORMAT.samples_in_millis(200) {
                break;
            }
        }
        // To return is to be done: what was spoken is played to its end, then the call is hung up.
        line.speaking().play_all(&said).await;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (line, mut end, mut commands) = line(Formats::both(FORMAT), &Limits::default());
    let conversation = tokio::spawn(run(Box::new(Parrot), line));

    // From here on we are the media thread: a frame each way every 20 ms, without waiting for the clock.
    println!("the caller speaks for 500 ms at 440 Hz");
    let mut caller = Tone::new(440.0, FORMAT.sample_rate(), 8_000);
    let mut frame = vec![0; FORMAT.samples_in_millis(20)];
    let mut said = Vec::new();
    for tick in 0.. {
        if tick < 25 {
            caller.fill(&mut frame);
        } else {
            frame.fill(0);
        }
        end.give_audio(&frame, false);
        tokio::task::yield_now().await;
        let mut out = vec![0; frame.len()];
        let spoken = end.take_audio(&mut out);
        said.extend_from_slice(&out[..spoken]);
        if !said.is_empty() && spoken == 0 {
            break;
        }
    }
    let tone = strongest(&said, FORMAT.sample_rate(), &[350.0, 440.0, 600.0]);
    let millis = said.len() * 1000 / FORMAT.sample_rate() as usize;
    println!("the conversation says back {millis} ms at {} Hz", tone.map_or(0.0, |(hz, _)| hz));
    if let Some(Command::HangUp(reason)) = commands.next().await {
        println!("then it hangs up: {reason:?}");
    }
    conversation.await.expect("the conversation did not panic").expect("it ended as it should");
}
