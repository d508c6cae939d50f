"""Rooms: what reaches the two ears from a loudspeaker, straight and over the walls."""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.signal import butter, sosfilt

from esc_lib.companions.binaural.heads import SPEED_OF_SOUND, SR, Head

N_SAMPLES = 8000  # of a response and of an excerpt, 0.5 s: what comes later is not heard
JITTER_M = 0.08  # largest shift of an image source, against flutter that real rooms do not have
LOWEST_HZ = 80.0
MAX_ORDER = 120  # reflections: beyond, images would fill the memory
DECAY_SR = 1000  # Hz, of energies over time
SINC_HALF = 8  # samples on each side of a reflection that lies between two samples


@dataclass(frozen=True)
class Room:
    """A box with a head in it, and a loudspeaker on a circle around the head."""

    name: str
    size_m: tuple[float, ...] = ()  # length, width, height; empty for a room without walls
    rt60_s: float = 0.0  # time in which sound dies away by 60 dB
    distance_m: float = 2.0  # of the loudspeaker from the head
    height_m: float = 1.4  # of head and loudspeaker above the floor


ANECHOIC = Room("anechoic")
LECTURE_HALL = Room("lecture hall", (14.0, 10.0, 4.5), 0.8)


@dataclass(frozen=True)
class Places:
    """Responses of two ears for heads at several places, and sources all around each.

    The direct sound starts within the first 3 ms, as strong as the head's own response.
    """

    table: pd.DataFrame  # a row per place: room, seat
    azimuths: np.ndarray  # degrees
    responses: np.ndarray  # float32 (places, azimuths, 2, 8000), left ear first


def prepare_places(rooms: list[Room], head: Head, n_azimuths: int, n_seats: int) -> Places:
    """Compute all responses once, so that rendering is one convolution.

    Azimuths lie evenly around the head from 0. In each room with walls `n_seats` places and
    orientations of the head are drawn.
    """
    azimuths = np.arange(n_azimuths) * 360 / n_azimuths
    rows, responses = [], []
    for room in rooms:
        for seat in range(n_seats if room.size_m else 1):
            rows.append({"room": room.name, "seat": seat})
            responses.append(room_responses(room, head, azimuths, seat))
    return Places(pd.DataFrame(rows), azimuths, np.stack(responses))


def room_responses(room: Room, head: Head, azimuths: np.ndarray, seat: int = 0) -> np.ndarray:
    """Return the responses at one seat, float32, shape (azimuths, 2, 8000).

    Every reflection passes through the head's response for the direction it comes from.
    Responses are known on the horizontal circle only: a reflection from above or below takes the
    azimuth, ahead or behind as it is, from which a sound is as far to the side. Time differences
    are right that way, the ear's outline is not. ValueError if the room is too small for a circle
    of its distance, or too low.
    """
    if not room.size_m:
        own = head.towards(azimuths)[..., :N_SAMPLES]
        own = np.pad(own, ((0, 0), (0, 0), (0, N_SAMPLES - own.shape[-1])))
        return loudspeaker(own).astype(np.float32)
    rng = np.random.default_rng([0, seat])
    position, turn_deg = draw_seat(room, rng)
    found = []
    for azimuth in azimuths:
        world = np.deg2rad(azimuth + turn_deg)
        source = position + room.distance_m * np.array([np.cos(world), np.sin(world), 0])
        offsets, strengths = image_sources(room, source, position, rng)
        found.append(_through_head(offsets, strengths, turn_deg, room.distance_m, head))
    return loudspeaker(np.stack(found)).astype(np.float32)


def loudspeaker(responses: np.ndarray) -> np.ndarray:
    """Take away what lies below 80 Hz, along the last axis.

    Image sources never flip the sign of the pressure. Late ones are so many that their mean, a
    sound of no pitch, would outlast everything else.
    """
    return sosfilt(butter(4, LOWEST_HZ, "highpass", fs=SR, output="sos"), responses)


def draw_seat(room: Room, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Draw where a head is, (x, y, z) in m, and where it looks, in degrees from the x axis."""
    margin = room.distance_m + 0.5
    floor = np.array(room.size_m[:2])
    if (floor <= 2 * margin).any() or room.size_m[2] <= room.height_m + JITTER_M:
        raise ValueError(
            f"draw_seat: room {room.name!r} of {room.size_m} m is too small for a loudspeaker "
            f"{room.distance_m} m around a head at {room.height_m} m; make it larger."
        )
    return np.append(rng.uniform(margin, floor - margin), room.height_m), rng.uniform(0, 360)


def image_sources(
    room: Room, source: np.ndarray, position: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the sound seems to come from, the source itself first, and how strong it is.

    Offsets are m from the head, (images, 3); strengths are pressures at 1 m over the source's. By
    allen1979image and scheibler2018pyroomacoustics; desena2015modeling for the jitter.
    """
    last_s = min(N_SAMPLES / SR, 1.2 * room.rt60_s)  # or down by 72 dB
    reach_m = last_s * SPEED_OF_SOUND + room.distance_m
    offsets, orders = _images(room, source, position, reach_m)
    offsets = offsets + (orders > 0)[:, None] * rng.uniform(-JITTER_M, JITTER_M, offsets.shape)
    return offsets, reflection_of(room) ** orders


def _images(
    room: Room, source: np.ndarray, position: np.ndarray, reach_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return images up to a distance, (images, 3) m from the head, and how often each reflects."""
    import pyroomacoustics  # takes more than a second

    order = int(np.ceil(reach_m / min(room.size_m)))
    if order > MAX_ORDER:
        raise ValueError(
            f"image_sources: room {room.name!r} of {room.size_m} m needs {order} reflections, "
            f"more than {MAX_ORDER}; take a shorter RT60 or a larger room."
        )
    box = pyroomacoustics.ShoeBox(list(room.size_m), max_order=order)
    box.add_source(source.tolist())
    box.add_microphone(position.tolist())
    box.image_source_model()
    offsets, orders = box.sources[0].images.T - position, box.sources[0].orders
    near = np.flatnonzero(np.linalg.norm(offsets, axis=1) < reach_m)
    rank = near[np.argsort(orders[near], kind="stable")]
    return offsets[rank].astype(float), orders[rank].astype(float)


@functools.cache
def reflection_of(room: Room) -> float:
    """Return the share of pressure that every wall gives back, for the room's RT60.

    The formulas of Sabine and Eyring take for granted that sound goes everywhere alike. In a box
    it lingers along the long sides, so the share is found from the images' own decay instead.
    ValueError if no wall gives that time.
    """
    corner = np.array([room.distance_m + 0.5, room.distance_m + 0.5, room.height_m])
    source = corner + np.array([0, room.distance_m, 0])
    offsets, orders = _images(room, source, corner, max(room.rt60_s, 0.1) * SPEED_OF_SOUND)
    distances = np.linalg.norm(offsets, axis=1)
    steps = (distances / SPEED_OF_SOUND * DECAY_SR).astype(int)

    def excess(reflection: float) -> float:
        energy = np.bincount(steps, (reflection**orders / distances) ** 2)
        return reverberation_time_s(np.sqrt(energy), DECAY_SR) - room.rt60_s

    ends = (0.05, 0.995)
    share = brentq(excess, *ends, xtol=1e-4) if excess(ends[0]) < 0 < excess(ends[1]) else 0.0
    if abs(excess(share)) > 0.1 * room.rt60_s:
        raise ValueError(
            f"reflection_of: room {room.name!r} of {room.size_m} m cannot have an RT60 of "
            f"{room.rt60_s} s; change one of them."
        )
    return float(share)


def _through_head(
    offsets: np.ndarray, strengths: np.ndarray, turn_deg: float, distance_m: float, head: Head
) -> np.ndarray:
    """Sum all images through the head, (2, samples); the direct sound has strength 1."""
    distances = np.linalg.norm(offsets, axis=1)
    delays = (distances - distance_m) / SPEED_OF_SOUND * SR
    gains = strengths * distance_m / distances
    rows = head.nearest(as_azimuth(offsets, turn_deg))
    # a train of pulses per direction, each pulse a windowed sinc between the samples
    trains = np.zeros((len(head.azimuths), N_SAMPLES + 2 * SINC_HALF))
    whole = np.floor(delays).astype(int)
    for step in range(1 - SINC_HALF, SINC_HALF + 1):
        apart = whole + step - delays
        weight = np.sinc(apart) * np.cos(np.pi * apart / (2 * SINC_HALF)) ** 2
        column = whole + step + SINC_HALF
        inside = (column >= 0) & (column < trains.shape[1])
        np.add.at(trains, (rows[inside], column[inside]), (gains * weight)[inside])
    # few taps and many directions: sums over directions first, one per ear and tap
    taps = head.responses.shape[-1]
    sums = np.tensordot(head.responses, trains, axes=(0, 0))  # (2, taps, samples)
    heard = np.zeros((2, trains.shape[1] + taps))
    for tap in range(taps):
        heard[:, tap : tap + trains.shape[1]] += sums[:, tap]
    return heard[:, SINC_HALF : SINC_HALF + N_SAMPLES]


def as_azimuth(offsets: np.ndarray, turn_deg: float) -> np.ndarray:
    """Return the azimuth as far to the side as each offset, (images, 3) m, of a turned head."""
    turn = np.deg2rad(turn_deg)
    unit = offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
    ahead = unit[:, 0] * np.cos(turn) + unit[:, 1] * np.sin(turn)
    left = unit[:, 1] * np.cos(turn) - unit[:, 0] * np.sin(turn)
    aside = np.rad2deg(np.arcsin(np.clip(left, -1, 1)))
    return np.where(ahead >= 0, aside, 180 - aside) % 360


def reverberation_time_s(response: np.ndarray, sr: int) -> float:
    """Return the time for a decay of 60 dB, from the slope between -5 and -25 dB; 0 if too steep.

    By schroeder1965new.
    """
    left = np.cumsum(np.square(response[::-1], dtype=float))[::-1]
    level = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    span = slice(int((level < -5).argmax()), int((level < -25).argmax()))
    if span.stop - span.start < 2:
        return 0.0
    slope = np.polyfit(np.arange(len(level))[span] / sr, level[span], 1)[0]
    return float(-60 / slope)
