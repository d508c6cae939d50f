"""Sounds as elements of a page: under their captions, or over their spectrograms in rows."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator
from PIL import Image

from esc_lib.config import FrontEnd
from esc_lib.figures.html.page import element, ogg, png
from esc_lib.figures.style import MAGNITUDE_CMAP, centres_hz, mel_ticks, plain
from esc_lib.sound.audio import level_matched
from esc_lib.sound.grid import Grid
from esc_lib.sound.log_mel import LogMel

N_COLOURS = 256
MOST_COLUMNS = 4  # those that pictured.css has room for
COMPRESSION = 0.5  # of Vorbis, 0 to 1: white noise of 44.1 kHz keeps its level within 0.5 dB
COMPRESSION_OF_EARS = 0.2  # with 0.5 the time between two ears is lost


@dataclass(frozen=True)
class Sound:
    """A sound, and its picture if it has one."""

    # (samples,) or (samples, 2), left first, full scale 1; played as it is, not normalised
    waveform: np.ndarray
    title: str  # what is heard, and which clip it is
    image: np.ndarray | None = None  # (mel, frames), to draw; None where it is only played


def captioned(sounds: Sequence[Sound], sr: int, licence: str) -> HTML:
    """Return one player per sound, under its title, side by side where there is room."""
    players = ""
    for sound in sounds:
        caption = html.escape(f"{sound.title} ({licence})")
        players += (
            f"<figure><figcaption>{caption}</figcaption>"
            f'<audio controls preload="none" aria-label="{caption}" src="{_packed(sound, sr)}">'
            "</audio></figure>"
        )
    return element(f'<div class="sound-list">{players}</div>', "captioned.css")


def pictured(
    rows: Sequence[Sequence[Sound]],
    settings: FrontEnd | Grid,
    licence: str,
    *,
    limits: tuple[float, float],
    headings: Sequence[str] = (),
    unit: str = "dB",
) -> HTML:
    """Return players over their spectrograms: a row per example, a column per kind of sound.

    A click in a picture plays from there, and a line shows what is being heard.

    Parameters
    ----------
    rows : up to four sounds each, all as many, of one channel; all images have the same shape.
    limits : float pair, what the first and the last colour stand for; what lies outside gets them.
    headings : one str per column, or none.

    Raises
    ------
    ValueError
        If rows, headings, limits, images or waveforms do not fit each other or the front end.

    Notes
    -----
    Twenty players of 5 s at 44.1 kHz with 128 x 431 pictures take 3.1 MB when both are white noise.
    """
    _check(rows, settings, limits, headings)
    n_columns = len(rows[0])
    headings = headings or [""] * n_columns
    cells = "".join(
        _cell(sound, heading, settings, limits)
        for row in rows
        for sound, heading in zip(row, headings, strict=True)
    )
    stops = (mpl.colors.to_hex(colour) for colour in _colours(17) / 255)
    low, high = (f"{limit:g}".replace("-", "−") for limit in limits)
    return element(
        f'<div class="sound-rows"><div class="grid c{n_columns}" style="--columns:{n_columns}">'
        f'{cells}</div><div class="foot">Colour: {low} <span class="scale" role="img" '
        f'aria-label="colour scale" style="background:linear-gradient(90deg,{",".join(stops)})">'
        f"</span> {high} {html.escape(unit)}. Click a picture to play from there; with the "
        "keyboard, arrows move by 0.25 s, space plays and pauses. "
        f"Sound: {html.escape(licence)}.</div></div>",
        "pictured.css",
        "pictured.js",
    )


def of_clips(data, rows: np.ndarray, front_end: LogMel, lines: Iterable[str]) -> list[Sound]:
    """Return clips with the network's input as pictures, and a line above each file name."""
    batch = data.batch(rows, front_end.window.device)
    names = data.clips.filename[rows]
    titles = [plain(f"{line}\n{name}") for line, name in zip(lines, names, strict=True)]
    return _of_batch(*batch, front_end.features(*batch)[:, 0], titles)


def of_parts(
    front_end: LogMel, parts: Sequence[torch.Tensor], n_valid: torch.Tensor, titles: Sequence[str]
) -> list[tuple[Sound, ...]]:
    """Return a row per clip: the clip and its parts, brought to the level of the clip.

    Pictures are not: they are in dB below the clip's peak, so that their colours compare. Parts are
    (clips, samples), full scale 1; the first holds the clips themselves.
    """
    pictures = [front_end(part, n_valid) for part in parts]
    peak = pictures[0].amax(dim=(1, 2), keepdim=True)
    columns = [
        _of_batch(level_matched(part, parts[0]), n_valid, picture - peak, titles)
        for part, picture in zip(parts, pictures, strict=True)
    ]
    return list(zip(*columns, strict=True))


def on_grid(
    grid: Grid, parts: Sequence[torch.Tensor], titles: Sequence[str], headings: Sequence[str],
    licence: str = "as given",
) -> HTML:  # fmt: skip
    """Return players of sounds and their parts, (batch, samples) each, over their spectrograms.

    Pictures are in dB below the first part's peak, so that their colours compare.
    """
    levels = [20 * grid.magnitude(part).clamp_min(1e-10).log10() for part in parts]
    peak = levels[0].amax(dim=(1, 2), keepdim=True)
    whole = torch.full((len(titles),), parts[0].shape[1])
    columns = [
        _of_batch(part, whole, level - peak, titles)
        for part, level in zip(parts, levels, strict=True)
    ]
    rows = list(zip(*columns, strict=True))
    return pictured(rows, grid, licence, limits=(-60, 0), headings=headings)


def _of_batch(waveforms, n_valid, pictures, titles: Sequence[str]) -> list[Sound]:
    """Return the sounds of a batch of tensors, each as long as its clip."""
    arrays = (tensor.cpu().numpy() for tensor in (waveforms, n_valid, pictures))
    return [
        Sound(waveform[:n], title, picture)
        for waveform, n, picture, title in zip(*arrays, titles, strict=True)
    ]


def _packed(sound: Sound, sr: int) -> str:
    ears = np.ndim(sound.waveform) == 2
    return ogg(sound.waveform, sr, COMPRESSION_OF_EARS if ears else COMPRESSION)


def _check(rows, settings, limits, headings) -> None:
    def refuse(what: str):
        raise ValueError(f"pictured: {what}.")

    n_columns = len(rows[0]) if rows else 0
    if not 1 <= n_columns <= MOST_COLUMNS or any(len(row) != n_columns for row in rows):
        lengths = [len(row) for row in rows]
        refuse(f"rows hold {lengths} sounds; give every row the same number, 1 to {MOST_COLUMNS}")
    if len(headings) not in (0, n_columns):
        refuse(f"{len(headings)} headings for {n_columns} columns; give one for each, or none")
    if not limits[0] < limits[1]:
        refuse(f"limits={limits}, expected the lower one first")
    sounds = [sound for row in rows for sound in row]
    if bare := [sound.title for sound in sounds if sound.image is None]:
        refuse(f"{bare[0]!r} has no image; give one, or show it with captioned")
    expected = (len(centres_hz(settings)), rows[0][0].image.shape[-1])
    longest = expected[1] * settings.hop_length + settings.n_fft
    for sound in sounds:
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


def _cell(sound: Sound, heading: str, settings: FrontEnd | Grid, limits) -> str:
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
        f'<img alt="Mel spectrogram of {name}" src="{_picture(sound.image, limits)}">'
        f'<div class="head"></div>{frequencies}<span class="axis">frequency (Hz)</span>{times}'
        f'</div><div class="bar"><button type="button" aria-label="Play {name}"></button>'
        '<span class="clock"></span><span>time (s)</span></div>'
        f'<audio controls preload="none" aria-label="{name}" src="{_packed(sound, settings.sr)}">'
        "</audio></div>"
    )


def _picture(image: np.ndarray, limits: tuple[float, float]) -> str:
    """Return (mel, frames) as a PNG of 256 colours, low frequencies at the bottom."""
    scaled = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1)
    indices = np.minimum(scaled * N_COLOURS, N_COLOURS - 1).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(indices[::-1]))
    picture.putpalette(_colours(N_COLOURS).tobytes())
    return png(picture)


def _colours(n: int) -> np.ndarray:
    """Return `n` colours of the scale, evenly spread, uint8, shape (n, 3)."""
    return mpl.colormaps[MAGNITUDE_CMAP](np.linspace(0, 1, n), bytes=True)[:, :3]
