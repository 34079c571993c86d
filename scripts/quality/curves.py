"""Rates what the examples made of speech, and writes docs/quality.md with its plots; run by scripts/quality/run."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from pesq import pesq
from scipy.io import wavfile
from scipy.signal import resample_poly

RATE = 8000
WIDE = 16000
FULL = 48000
LOSSES = [0, 1, 3, 5, 10, 15, 20]
JITTERS = [0, 10, 20, 40, 60, 80, 100]
METHODS = {"zero": "zero-fill", "repeat": "repetition", "spandsp": "spandsp", "iqra": "Iqra"}
BUFFERS = ["adaptive", "fixed"]
# Percent lost and ms of jitter, as the example path_quality has them.
NETWORKS = {(0, 0): "0 %", (1, 0): "1 %", (3, 0): "3 %", (5, 0): "5 %", (10, 0): "10 %", (1, 40): "1 %, 40 ms"}
# What carries no more than 4 kHz, whatever is heard.
NARROW = ["pcmu-8", "pcmu-24", "pcma-16", "l16/8-24"]
# The cases in the plots.
DRAWN = ["pcmu-8", "g722-16", "opus-16", "opus-16-fec", "opus-24-fec", "opus-48-fec", "l16/16-24"]
VOICES = [("en-gb", 150), ("en-us+f3", 160)]
TEXT = """Good morning, and thank you for calling the service desk of the city library. I am happy to help you with
your order today. Could you please tell me the number that is printed on the back of your card? It starts with two
letters, followed by seven digits. She asked for six thick books about the history of ships, and a small one about
birds. Please hold the line for a moment, I will connect you with a colleague who is going to look into the matter."""


def speak(work, rate):
    """Speech at this rate and -20 dBov over a faint noise, as files; gives each voice's file and samples."""
    voices = []
    for number, (voice, pace) in enumerate(VOICES):
        raw = work / f"voice-{number}-raw.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(pace), "-w", raw, TEXT], check=True)
        raw_rate, samples = wavfile.read(raw)
        samples = resampled(samples, raw_rate, rate)
        samples *= 3000 / np.sqrt(np.mean(samples**2))
        samples += np.random.default_rng(1).normal(0, 10, len(samples))
        path = work / f"voice-{number}-{rate}.wav"
        wavfile.write(path, rate, as_pcm(samples))
        voices.append((path, as_pcm(samples)))
    return voices


def resampled(samples, old, new):
    return resample_poly(samples.astype(float), new // 50, old // 50)


def as_pcm(samples):
    return np.clip(samples, -32768, 32767).astype("<i2")


def distance(a, b, size=256):
    """Log-spectral distance in dB, as the example loss_curves has it."""
    window, found = np.hanning(size + 1)[:-1], []
    for at in range(0, min(len(a), len(b)) - size + 1, size // 2):
        x, y = a[at : at + size].astype(float), b[at : at + size].astype(float)
        if (x == y).all():
            found.append(0.0)
            continue
        x, y = (10 * np.log10(np.abs(np.fft.rfft(z * window))[1 : size // 2] ** 2 / size + 1) for z in (x, y))
        found.append(np.sqrt(np.mean((x - y) ** 2)))
    return float(np.mean(found))


def loss_curves(work, examples, voices):
    """{(kind, percent, method): (PESQ, distance)}, means over the voices."""
    seen = {}
    for path, speech in voices:
        subprocess.run([examples / "loss_curves", path, work], check=True, stdout=subprocess.DEVNULL)
        speech.tofile(work / "in.raw")
        for kind in ["random", "bursty"]:
            for percent in LOSSES:
                flags, out = work / f"{kind}-{percent}.txt", work / "out.raw"
                subprocess.run([work / "spandsp_plc", work / "in.raw", flags, out], check=True)
                for method in METHODS:
                    if method == "spandsp":
                        heard = np.fromfile(out, "<i2")
                    else:
                        heard = wavfile.read(work / f"{method}-{kind}-{percent}.wav")[1]
                    figures = pesq(RATE, speech, heard, "nb"), distance(speech, heard)
                    seen.setdefault((kind, percent, method), []).append(figures)
    return {key: np.mean(values, axis=0) for key, values in seen.items()}


def jitter_curves(work, examples, voices):
    """{(kind, ms, buffer): (PESQ, delay, late, lost, longer, shorter)}, means over the voices."""
    seen = {}
    for path, speech in voices:
        run = subprocess.run([examples / "jitter_curves", path, work], check=True, capture_output=True, text=True)
        for line in run.stdout.splitlines()[1:]:
            kind, ms, _, buffer, *figures = line.split()
            heard = wavfile.read(work / f"{buffer}-{kind}-{ms}.wav")[1]
            figures = [pesq(RATE, speech, heard, "nb"), *map(float, figures)]
            seen.setdefault((kind, int(ms), buffer), []).append(figures)
    return {key: np.mean(values, axis=0) for key, values in seen.items()}


def path_curves(work, examples, voices):
    """{(case, loss, jitter): (PESQ narrow, PESQ wide, delay, kbit/s, concealed)}, means over the voices."""
    seen = {}
    for path, speech in voices:
        run = subprocess.run([examples / "path_quality", path, work], check=True, capture_output=True, text=True)
        for line in run.stdout.splitlines()[1:]:
            case, loss, jitter, *figures = line.split()
            rate, heard = wavfile.read(work / f"path-{case.replace('/', '-')}-{loss}-{jitter}.wav")
            rated = [
                pesq(to, as_pcm(resampled(speech, FULL, to)), as_pcm(resampled(heard, rate, to)), mode)
                for to, mode in [(RATE, "nb"), (WIDE, "wb")]
            ]
            seen.setdefault((case, int(loss), int(jitter)), []).append([*rated, *map(float, figures)])
    return {key: np.mean(values, axis=0) for key, values in seen.items()}


def plot(name, xs, lines, x_label, y_label):
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for label, ys in lines:
        axes.plot(xs, ys, marker="o", markersize=3, label=label)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(f"docs/quality/{name}.svg", metadata={"Date": None})
    plt.close(figure)


def table(head, rows):
    return "\n".join(["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]])


def loss_section(seen):
    parts = []
    for kind in ["random", "bursty"]:
        curve = lambda method, figure: [seen[kind, percent, method][figure] for percent in LOSSES]
        plot(f"pesq-{kind}", LOSSES, [(METHODS[m], curve(m, 0)) for m in METHODS], "packets lost, %", "PESQ (MOS-LQO)")
        plot(f"distance-{kind}", LOSSES, [(METHODS[m], curve(m, 1)) for m in METHODS], "packets lost, %", "log-spectral distance, dB")
        rows = [
            [f"{percent} %"] + [f"{seen[kind, percent, m][0]:.2f} ({seen[kind, percent, m][1]:.2f})" for m in METHODS]
            for percent in LOSSES
        ]
        title = "Random loss" if kind == "random" else "Bursts of three packets on average"
        parts.append(f"### {title}\n\nPESQ, and log-spectral distance in dB:\n\n{table(['lost', *METHODS.values()], rows)}\n\n"
                     f"![PESQ](quality/pesq-{kind}.svg) ![distance](quality/distance-{kind}.svg)")
    return "\n\n".join(parts)


def jitter_section(seen):
    parts = []
    for kind in ["even", "stalls"]:
        for name, figure, label in [("pesq", 0, "PESQ (MOS-LQO)"), ("delay", 1, "mean wait in the buffer, ms")]:
            lines = [(b, [seen[kind, ms, b][figure] for ms in JITTERS]) for b in BUFFERS]
            plot(f"{name}-{kind}", JITTERS, lines, "jitter, ms", label)
        rows = [
            [f"{ms} ms", b, f"{q:.2f}", f"{delay:.0f}", f"{late:.1f}", f"{lost:.1f}", f"{longer:.0f}", f"{shorter:.0f}"]
            for ms in JITTERS
            for b in BUFFERS
            for q, delay, late, lost, longer, shorter in [seen[kind, ms, b]]
        ]
        title = "Even jitter: each packet 0 to n ms late" if kind == "even" else "Stalls of n ms, twenty a minute"
        head = ["n", "buffer", "PESQ", "wait, ms", "late, %", "concealed, %", "put in, ms", "taken out, ms"]
        parts.append(f"### {title}\n\n{table(head, rows)}\n\n![PESQ](quality/pesq-{kind}.svg) ![delay](quality/delay-{kind}.svg)")
    return "\n\n".join(parts)


def path_section(seen):
    cases = list(dict.fromkeys(case for case, *_ in seen))
    wide = [case for case in cases if case not in NARROW]

    def figures(cases, figure, digits):
        rows = [[case, *(f"{seen[case, *network][figure]:.{digits}f}" for network in NETWORKS)] for case in cases]
        return table(["case", *NETWORKS.values()], rows)

    losses = [loss for loss, jitter in NETWORKS if not jitter]
    for name, figure, shown in [("narrow", 0, DRAWN), ("wide", 1, [case for case in DRAWN if case in wide])]:
        lines = [(case, [seen[case, loss, 0][figure] for loss in losses]) for case in shown]
        plot(f"path-{name}", losses, lines, "packets lost, %", f"PESQ, {name} band (MOS-LQO)")
    return PATH.format(
        narrow=figures(cases, 0, 2),
        wide=figures(wide, 1, 2),
        delay=figures(cases, 2, 0),
        rate=figures(cases, 3, 0),
    )


HEAD = """# Quality against loss and jitter, and through the whole path

Written by `scripts/quality/run`, which takes some minutes and says what it needs. Speech: two voices of espeak-ng,
{seconds:.0f} s together, at −20 dBov, with a faint noise. Rated by PESQ (ITU-T P.862, narrow band, MOS-LQO: 4.55
for what is not changed, 1.0 at the worst) and by log-spectral distance (0 for what is not changed). Synthetic speech
ranks methods against one another; its figures are not those of a listening test. Seeds are fixed: a run repeats.
"""

LOSS = """## Loss

Iqra's concealment for codecs without their own (`iqra_media::jitter::conceal`), beside zero-fill, the last packet once
more, and the concealment of spandsp 0.0.6 (`plc_fillin`). At 8 kHz in packets of 20 ms; coding is left out, so that the
curves show the concealment alone.

{loss}
"""

JITTER = """## Jitter

The adaptive buffer with time stretching (its defaults: at first 40 ms, then 20 to 200 ms), beside the same buffer held
at 40 ms, again without coding. PESQ aligns the times of both signals per utterance and so judges the sound, not the
delay. "Late" packets came after a newer one was played; "concealed" are frames made up, of which some were played after
all and so became delay.

{jitter}
"""

PATH = """## The whole path

What the conversation at one end hears of what the one at the other says: line, resampling, coding, RTP, a network,
the adaptive buffer, decoding or concealment, resampling, line (`iqra-media/examples/path_quality.rs`). A case is a
codec and the rate in kHz at which both conversations work: `pcmu-24` is resampled from 24 kHz to 8 and back, and goes
through SRTP; `l16/8-24` is L16 at 8 kHz between conversations at 24. `fec` says that copies of lost frames were agreed
on, which Opus sends once it expects losses: at first 5 %, then what RTCP tells. Columns are packets lost at random, and
the last one loses 1 % and has each packet come 0 to 40 ms late. Packets of 20 ms; L16 at 48 kHz has 10.

The speech is made at 48 kHz. PESQ compares it at 8 kHz with the narrow band of what was heard, and for what carries more
at 16 kHz with the wide band (P.862.2, at most 4.64). Rows are comparable within a table only. The time stretching that
takes the buffer from its first 40 ms to what the network needs costs about 0.1 of what is not coded at all (`l16`).

### PESQ, narrow band

{narrow}

![narrow band](quality/path-narrow.svg)

### PESQ, wide band

{wide}

![wide band](quality/path-wide.svg)

### Delay in ms

From when a sample leaves the line of who says it to when it is heard: the buffer, and the filters of resampling and of
the codec; the network takes no time but its jitter. A microphone would add the packet time, since what is synthesised
is there before its time.

{delay}

### Payload in kbit/s

{rate}
"""

PAGE = Path("docs/quality.md")


def loss(work, examples):
    return LOSS.format(loss=loss_section(loss_curves(work, examples, speak(work, RATE))))


def jitter(work, examples):
    return JITTER.format(jitter=jitter_section(jitter_curves(work, examples, speak(work, RATE))))


def path(work, examples):
    return path_section(path_curves(work, examples, speak(work, FULL)))


PARTS = {"loss": loss, "jitter": jitter, "path": path}


def main():
    """Writes the parts that are named, or all, and leaves the others on the page as they are."""
    work, examples, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(PARTS)
    seconds = sum(len(samples) for _, samples in speak(work, RATE)) / RATE
    there = dict(zip(PARTS, re.split("(?m)^(?=## )", PAGE.read_text())[1:]))
    parts = {name: part(work, examples) if name in wanted else there[name].rstrip() + "\n" for name, part in PARTS.items()}
    PAGE.write_text("\n".join([HEAD.format(seconds=seconds), *parts.values()]))


main()
