"""Sounds over their spectrograms as an element of the page, with a line that moves as they play."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator
from PIL import Image

from esc_lib.config import FrontEnd
from esc_lib.figures.html.sounds import sound_uri
from esc_lib.figures.style import MAGNITUDE_CMAP, mel_ticks

N_COLOURS = 256
NARROWEST_PX, GUTTER_PX = 190, 58  # of a column beside others; of the frequency axis

# The container query puts columns below each other where there is no room for them. What is
# marked as important holds against the book's dark theme, which frames and darkens images.
STYLE = """
.sound-rows{container-type:inline-size;box-sizing:border-box;width:100%;padding:8px 16px;
 background:#fff;color:#222;font-size:13px;line-height:1.3;border-radius:4px}
.sound-rows .grid{display:grid;align-items:end;gap:14px 16px;padding-left:GUTTERpx}
.sound-rows .grid.cCOLUMNS{grid-template-columns:repeat(COLUMNS,minmax(0,1fr));
 max-width:WIDESTpx}
.sound-rows .heading{font-weight:600;margin-bottom:4px}
.sound-rows .title{white-space:pre-line;overflow-wrap:anywhere;margin-bottom:3px}
.sound-rows .picture{position:relative;height:128px;cursor:pointer}
.sound-rows .picture img{display:block;width:100%;height:100%;max-width:none;margin:0;
 padding:0!important;border-radius:0!important;filter:none!important}
.sound-rows .picture:focus-visible,.sound-rows button:focus-visible{outline:3px solid #0072b2;
 outline-offset:2px}
.sound-rows .head{position:absolute;top:0;bottom:0;left:0;width:2px;margin-left:-1px;
 background:#fff;box-shadow:0 0 0 1px #000;pointer-events:none}
.sound-rows .hz,.sound-rows .s{position:absolute;font-size:11px;color:#222}
.sound-rows .hz{right:calc(100% + 5px);transform:translateY(50%)}
.sound-rows .s{top:calc(100% + 2px);transform:translateX(-50%)}
.sound-rows .axis{position:absolute;right:calc(100% + 38px);top:0;bottom:0;font-size:11px;
 text-align:center;writing-mode:vertical-rl;transform:rotate(180deg)}
.sound-rows .bar{display:flex;align-items:center;gap:8px;margin-top:20px;min-height:28px}
.sound-rows .bar span:last-child{margin-left:auto;font-size:11px}
.sound-rows button{width:36px;height:28px;padding:0;border:1px solid #767676;border-radius:4px;
 background:#f2f2f2;cursor:pointer}
.sound-rows button::before{content:"";display:block;width:12px;height:14px;margin:auto;
 background:#222;clip-path:polygon(0 0,100% 50%,0 100%)}
.sound-rows .playing button::before{clip-path:polygon(0 0,35% 0,35% 100%,65% 100%,65% 0,100% 0,
 100% 100%,0 100%)}
.sound-rows .foot{margin:8px 0 0 GUTTERpx;font-size:12px}
.sound-rows .scale{display:inline-block;width:90px;height:10px;vertical-align:-1px}
.sound-rows audio{width:100%;height:32px}
.sound-rows[data-ready] audio,.sound-rows:not([data-ready]) .bar{display:none}
@container (min-width:WRAPpx){
 .sound-rows .cCOLUMNS>:not(:nth-child(COLUMNSn+1)) :is(.hz,.axis),
 .sound-rows .cCOLUMNS>:nth-child(n+FOLLOWING) .heading{display:none}}
@container (max-width:WRAP_BELOWpx){.sound-rows .grid.cCOLUMNS{grid-template-columns:100%}}
"""
# Four columns become two by two before they stand below each other.
PAIRS = """
@container (min-width:PAIRpx) and (max-width:WRAP_BELOWpx){
 .sound-rows .grid.cCOLUMNS{grid-template-columns:repeat(2,minmax(0,1fr))}
 .sound-rows .cCOLUMNS>:nth-child(2n) :is(.hz,.axis){display:none}}
"""

# Without JavaScript the browser's own controls are seen instead. Every block wires those of its
# kind that are not wired yet: it needs no name, and may stand on a page twice. Before it is played,
# a sound is unpacked to a WAV: in Ogg, Chromium seeks to the start of a page, up to 0.4 s early,
# and reports the time that was asked for, so that the line would not stand where the sound is.
SCRIPT = """
(() => {
  const wire = (player) => {
    const [picture, head, button, clock, audio] =
      [".picture", ".head", "button", ".clock", "audio"].map((s) => player.querySelector(s));
    const sound_s = Number(player.dataset.sound), picture_s = Number(player.dataset.picture);
    const name = button.getAttribute("aria-label");
    let frame = 0, unpacked;
    const draw = () => {
      head.style.left = Math.min(100, 100 * audio.currentTime / picture_s) + "%";
      clock.textContent = audio.currentTime.toFixed(1) + " of " + sound_s.toFixed(1) + " s";
    };
    const tell = () => {
      draw();
      picture.setAttribute("aria-valuenow", audio.currentTime.toFixed(2));
      picture.setAttribute("aria-valuetext", audio.currentTime.toFixed(2) + " s");
    };
    const run = () => { draw(); frame = requestAnimationFrame(run); };
    const seek = (s) => {
      audio.currentTime = Math.max(0, Math.min(s, sound_s - 0.01));
      tell();
    };
    const unpack = async () => {
      const packed = Uint8Array.from(atob(audio.src.split(",")[1]), (c) => c.charCodeAt(0));
      const sr = Number(player.dataset.sr), n = Math.round(sound_s * sr);
      const decoded = await new OfflineAudioContext(1, 1, sr).decodeAudioData(packed.buffer);
      const samples = Int16Array.from(decoded.getChannelData(0).subarray(0, n),
        (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))));
      const size = samples.byteLength, header = new Uint32Array([0x46464952, 36 + size, 0x45564157,
        0x20746d66, 16, 0x10001, sr, 2 * sr, 0x100002, 0x61746164, size]);
      const now = audio.currentTime;
      audio.src = URL.createObjectURL(new Blob([header, samples], { type: "audio/wav" }));
      audio.currentTime = now;
    };
    const play = async () => {
      try {
        await (unpacked ??= unpack());
        await audio.play();
      } catch (error) {
        if (error.name !== "AbortError") clock.textContent = "Ogg Vorbis is not played here";
      }
    };
    const toggle = () => { if (audio.paused) play(); else audio.pause(); };
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      player.classList.add("playing");
      button.setAttribute("aria-label", name.replace("Play", "Pause"));
      cancelAnimationFrame(frame);
      run();
    });
    audio.addEventListener("pause", () => {
      player.classList.remove("playing");
      button.setAttribute("aria-label", name);
      cancelAnimationFrame(frame);
      tell();
    });
    button.addEventListener("click", toggle);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      seek(picture_s * (event.clientX - box.left) / box.width);
      play();
    });
    player.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
      if (step) seek(audio.currentTime + step);
      else if ((event.key === "Enter" || event.key === " ") && event.target === picture) toggle();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    audio.controls = false;
    draw();
  };
  for (const block of document.querySelectorAll(".sound-rows:not([data-ready])")) {
    block.dataset.ready = "";
    block.querySelectorAll("[data-sound]").forEach(wire);
  }
})();
"""


@dataclass(frozen=True)
class Sound:
    """A sound and its picture.

    Attributes
    ----------
    waveform : float array, shape (samples,), full scale 1; played as it is, not normalised.
    image : array, shape (mel, frames), to draw.
    title : str, what is heard, and which clip it is.
    """

    waveform: np.ndarray
    image: np.ndarray
    title: str


def rows(
    sounds: Sequence[Sequence[Sound]],
    settings: FrontEnd,
    licence: str,
    *,
    limits: tuple[float, float],
    headings: Sequence[str] = (),
    unit: str = "dB",
) -> HTML:
    """Return players over their spectrograms: a row per example, a column per kind of sound.

    A click in a picture plays from there, and a line shows what is being heard. Sounds and pictures
    are part of the element, which needs neither files nor network.

    Parameters
    ----------
    sounds : one list per row, all of one length; all images have the same shape.
    settings : FrontEnd, for the axes and the sample rate.
    licence : str, of the clips.
    limits : float pair, what the first and the last colour stand for; what lies outside gets them.
    headings : one str per column, or none.
    unit : str, of the images.

    Raises
    ------
    ValueError
        If rows, headings, limits, images or waveforms do not fit each other or the front end.

    Notes
    -----
    Twenty players of 5 s at 44.1 kHz with 128 x 431 pictures take 3.1 MB when both are white noise.
    """
    _check(sounds, settings, limits, headings)
    n_columns = len(sounds[0])
    headings = headings or [""] * n_columns
    cells = "".join(
        _player(sound, heading, settings, limits)
        for row in sounds
        for sound, heading in zip(row, headings, strict=True)
    )
    stops = (mpl.colors.to_hex(colour) for colour in _colours(17) / 255)
    low, high = (f"{limit:g}".replace("-", "−") for limit in limits)
    return HTML(
        f'<style>{_style(n_columns)}</style><div class="sound-rows">'
        f'<div class="grid c{n_columns}">{cells}</div>'
        f'<div class="foot">Colour: {low} <span class="scale" role="img" aria-label="colour scale" '
        f'style="background:linear-gradient(90deg,{",".join(stops)})"></span> {high} '
        f"{html.escape(unit)}. Click a picture to play from there; with the keyboard, arrows move "
        f"by 0.25 s, space plays and pauses. Sound: {html.escape(licence)}.</div></div>"
        f"<script>{SCRIPT}</script>"
    )


def _check(sounds, settings, limits, headings) -> None:
    def refuse(what: str):
        raise ValueError(f"rows: {what}.")

    n_columns = len(sounds[0]) if sounds else 0
    if not n_columns or any(len(row) != n_columns for row in sounds):
        lengths = [len(row) for row in sounds]
        refuse(f"rows hold {lengths} sounds; give every row the same number, at least one")
    if len(headings) not in (0, n_columns):
        refuse(f"{len(headings)} headings for {n_columns} columns; give one for each, or none")
    if not limits[0] < limits[1]:
        refuse(f"limits={limits}, expected the lower one first")
    expected = (settings.n_mels, sounds[0][0].image.shape[-1])
    longest = expected[1] * settings.hop_length + settings.n_fft
    for sound in (sound for row in sounds for sound in row):
        title, shape, n_samples = sound.title, sound.image.shape, np.shape(sound.waveform)
        if shape != expected or not shape[1]:
            refuse(f"image of {title!r} has shape {shape}, expected {expected}; draw all alike")
        if np.isnan(sound.image).any():
            refuse(f"image of {title!r} holds NaN; replace it before drawing")
        if len(n_samples) != 1 or not 0 < n_samples[0] <= longest:
            refuse(
                f"waveform of {title!r} has shape {n_samples}, expected 1 to {longest} samples; "
                "give the sound of the picture"
            )
        if not np.isfinite(sound.waveform).all():
            refuse(f"waveform of {title!r} holds NaN or infinity; replace it before playing")


def _player(sound: Sound, heading: str, settings: FrontEnd, limits: tuple[float, float]) -> str:
    """Return the markup of one sound: heading, title, picture with axes, and a bar of controls."""
    n_mels, n_frames = sound.image.shape
    picture_s, sound_s = n_frames * settings.frame_s, len(sound.waveform) / settings.sr
    places, names = mel_ticks(settings)
    frequencies = "".join(
        f'<span class="hz" style="bottom:{100 * place / n_mels:.1f}%">{name}</span>'
        for place, name in zip(places, names, strict=True)
    )
    ticks_s = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, picture_s)
    times = "".join(
        f'<span class="s" style="left:{100 * tick / picture_s:.1f}%">{tick:g}</span>'
        for tick in ticks_s[(ticks_s >= 0) & (ticks_s <= picture_s)]
    )
    name = html.escape(f"{heading}: {sound.title}" if heading else sound.title)
    above = f'<div class="heading">{html.escape(heading)}</div>' if heading else ""
    return (
        f'<div data-sound="{sound_s:.6f}" data-picture="{picture_s:.4f}" data-sr="{settings.sr}">'
        f'{above}<div class="title">{html.escape(sound.title)}</div>'
        f'<div class="picture" role="slider" tabindex="0" aria-label="Position in {name}" '
        f'aria-valuemin="0" aria-valuemax="{sound_s:.2f}" aria-valuenow="0">'
        f'<img alt="Mel spectrogram of {name}" src="{_picture_uri(sound.image, limits)}">'
        f'<div class="head"></div>{frequencies}<span class="axis">frequency (Hz)</span>{times}'
        f'</div><div class="bar"><button type="button" aria-label="Play {name}"></button>'
        '<span class="clock"></span><span>time (s)</span></div>'
        f'<audio controls preload="none" aria-label="{name}" '
        f'src="{sound_uri(sound.waveform, settings.sr)}"></audio></div>'
    )


def _picture_uri(image: np.ndarray, limits: tuple[float, float]) -> str:
    """Return (mel, frames) as a PNG of 256 colours, low frequencies at the bottom."""
    scaled = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1)
    indices = np.minimum(scaled * N_COLOURS, N_COLOURS - 1).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(indices[::-1]))
    picture.putpalette(_colours(N_COLOURS).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _colours(n: int) -> np.ndarray:
    """Return `n` colours of the scale, evenly spread, uint8, shape (n, 3)."""
    return mpl.colormaps[MAGNITUDE_CMAP](np.linspace(0, 1, n), bytes=True)[:, :3]


def _style(n_columns: int) -> str:
    wrap = n_columns * NARROWEST_PX + GUTTER_PX
    numbers = {"GUTTER": GUTTER_PX, "WIDEST": 560 * n_columns, "WRAP_BELOW": wrap - 0.02,
               "WRAP": wrap, "COLUMNS": n_columns, "FOLLOWING": n_columns + 1,
               "PAIR": 2 * NARROWEST_PX + GUTTER_PX}  # fmt: skip
    style = STYLE + PAIRS * (n_columns == 4)
    for name, value in numbers.items():
        style = style.replace(name, str(value))
    return style
