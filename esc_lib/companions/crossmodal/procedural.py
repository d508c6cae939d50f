"""Ten generated sounds and ten drawn digits: pairs that need no download.

A class of sound is a course of pitch and loudness (a steady chord, a sweep, a trill ...). Whoever
"plays" it sets pitch, timbre, loudness of the noise and attack; each clip differs in start, length
and tuning. A class of image is a digit in seven strokes; who "writes" it sets slant, width and
pen; each picture differs in place, size, turn and the ends of its strokes. Players and writers are
the sources: none is in train and test.
"""

import numpy as np
import torch

from esc_lib.companions.crossmodal.networks import SIDE
from esc_lib.companions.crossmodal.pairs import PARTS, PairSet, Pictures, from_levels
from esc_lib.companions.crossmodal.spectrograms import DIGIT_FRONT_END, pictures_of

CLASS_NAMES = [str(digit) for digit in range(10)]
N_PARTIALS = 8
TEST_SHARE = 0.3  # of the players and of the writers
#   corners of the seven strokes: x to the right, y downwards, a digit is 1 wide and 2 high
CORNERS = {"a": (0, 0), "b": (1, 0), "c": (0, 1), "d": (1, 1), "e": (0, 2), "f": (1, 2)}
STROKES = (
    "ab bf fe ea", "bf", "ab bd dc ce ef", "ab bd dc df fe", "ac cd bf", "ba ac cd df fe",
    "ba ae ef fd dc", "ab bf", "ab bf fe ea cd", "dc ca ab bf fe",
)  # fmt: skip

# class to (octaves above the root, over time t in [0, 1] with a rate near 1; loudness; partials)
PITCH = (
    lambda t, rate: 0 * t,  # 0 steady
    lambda t, rate: 1.5 * t,  # 1 rises
    lambda t, rate: 1.5 - 1.5 * t,  # 2 falls
    lambda t, rate: 1.5 * (1 - np.abs(2 * t - 1)),  # 3 rises and falls
    lambda t, rate: 0.12 * np.sin(2 * np.pi * 6 * rate * t),  # 4 vibrato
    lambda t, rate: 1.0 * (np.sin(2 * np.pi * 4 * rate * t) > 0),  # 5 trill over an octave
    lambda t, rate: 0 * t,  # 6 beats
    lambda t, rate: 1.5 + 0 * t,  # 7 high
    lambda t, rate: np.floor(4 * t) / 2,  # 8 a scale of four
    lambda t, rate: 0 * t,  # 9 noise bursts
)
BEATS, BURSTS = 6, 9


def sound(label: int, player: np.random.Generator, clip: np.random.Generator) -> np.ndarray:
    """Return one clip, (samples,), of `label`, 0 to 9, as this player plays it.

    `player` is seeded for the player, so that all its clips share what it draws.
    """
    settings = DIGIT_FRONT_END
    n_samples = (settings.n_frames - 1) * settings.hop_length
    root_hz, decay = 220 * 2 ** player.uniform(-0.6, 0.6), player.uniform(0.4, 1.6)
    odd, attack = player.uniform(0.2, 1), player.uniform(0.01, 0.15)
    noise_db, rate = player.uniform(20, 40), player.uniform(0.8, 1.25)
    brightness = player.uniform(0, 1)

    start, length = clip.uniform(0, 0.12), clip.uniform(0.65, 0.85)
    t = (np.arange(n_samples) / n_samples - start) / length
    inside, t = (t >= 0) & (t <= 1), t.clip(0, 1)
    octaves = PITCH[label](t, rate * clip.uniform(0.9, 1.1)) + clip.normal(0, 0.03)
    phase = 2 * np.pi * np.cumsum(root_hz * 2**octaves) / settings.sr
    envelope = inside * np.minimum(1, t / attack) * np.minimum(1, (1 - t) / 0.1)
    wave = np.zeros(n_samples)
    if label == BURSTS:
        hiss = np.convolve(clip.normal(size=n_samples), [1, -brightness], "same")
        wave = hiss * (np.sin(2 * np.pi * 5 * rate * t) > 0.2)
    else:
        for k in range(1, N_PARTIALS + 1):
            audible = root_hz * 2 ** np.max(octaves) * k < 0.95 * settings.f_max_hz
            wave += audible * k**-decay * (odd if k % 2 == 0 else 1) * np.sin(k * phase)
    if label == BEATS:
        wave *= 0.5 - 0.5 * np.cos(2 * np.pi * 5 * rate * t)
    wave *= envelope
    wave /= np.abs(wave).max()
    level = np.sqrt(np.mean(wave**2)) * 10 ** (-noise_db / 20)
    return (wave + level * clip.normal(size=n_samples)).astype(np.float32)


def image(label: int, writer: np.random.Generator, drawing: np.random.Generator) -> np.ndarray:
    """Return one drawn digit, (64, 64), in [-1, 1], as this writer draws it."""
    slant, aspect = writer.uniform(-0.35, 0.35), writer.uniform(0.7, 1.15)
    pen, wobble = writer.uniform(2.0, 4.5), writer.uniform(0.02, 0.09)
    turn, size = drawing.normal(0, 0.08), drawing.uniform(17, 22)
    middle = SIDE / 2 + drawing.uniform(-4, 4, 2)
    corners = {}
    for name, place in CORNERS.items():
        x, y = np.array(place) - (0.5, 1) + drawing.normal(0, wobble, 2)
        x = aspect * x - slant * y
        cos, sin = np.cos(turn), np.sin(turn)
        corners[name] = middle + size * np.array([cos * x - sin * y, sin * x + cos * y])
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1) + 0.5
    distance = np.full((SIDE, SIDE), np.inf)
    for first, last in STROKES[label].split():
        a, b = corners[first], corners[last]
        along = ((grid - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
        to_stroke = np.linalg.norm(grid - a - along[..., None] * (b - a), axis=-1)
        distance = np.minimum(distance, to_stroke)
    return 2 * (pen - distance + 0.5).clip(0, 1) - 1


def make(n_per_class: int, n_sources: int, seed: int = 0) -> PairSet:
    """Return generated sounds and drawn digits; the first players and writers are held out.

    There are as many images as sounds, and writers as players. Sources take turns, and each gives
    one of each class at least.

    Examples
    --------
    >>> pairs = make(n_per_class=10, n_sources=5)
    >>> len(pairs.sounds["train"]), len(pairs.sounds["test"])
    (60, 40)
    """
    n_test = max(1, round(TEST_SHARE * n_sources))
    if n_test >= n_sources or n_per_class < n_sources:
        asked = f"{n_per_class} pictures a class of {n_sources} sources, {n_test} held out"
        needed = "each source has to give one of each class, and some have to stay"
        raise ValueError(f"make: {asked}; {needed}.")
    label, index = np.divmod(np.arange(10 * n_per_class), n_per_class)
    source = index % n_sources
    both = []
    for modality, (draw, what) in enumerate(((sound, "player"), (image, "writer"))):
        drawn = []
        for of_one in zip(source.tolist(), label.tolist(), index.tolist()):
            of_source = np.random.default_rng([seed, modality, of_one[0]])
            own = np.random.default_rng([seed, modality, *of_one])
            drawn.append(draw(of_one[1], of_source, own))
        drawn = torch.from_numpy(np.stack(drawn)).float()
        pixels = from_levels(drawn)[:, None] if modality else pictures_of(drawn, DIGIT_FRONT_END)
        names = np.array([f"{what} {number}" for number in source])
        everything = Pictures(pixels, torch.from_numpy(label), names)
        rows = dict(zip(PARTS, (source >= n_test, source < n_test), strict=True))
        both.append({part: everything.take(np.flatnonzero(r)) for part, r in rows.items()})
    return PairSet("procedural", CLASS_NAMES, *both, DIGIT_FRONT_END)
