"""From atoms to sound: soft masks on the mel axis, lifted to the STFT, applied, inverted.

A component is what one atom adds to W H. Its mask is its share of the whole, so the masks of all
atoms sum to one, and so do the sounds that they cut out of a clip: they add up to the clip.
"""

from collections.abc import Sequence

import torch
from torch import nn

from esc_lib.explain.conditions import BATCH
from esc_lib.layers.hooks import frames_per_step, pool_frames
from esc_lib.sound.grid import lift
from esc_lib.sound.log_mel import LogMel

NOISE_GRID = (8, 13)  # bands and frames of a random mask's noise, between which it is smooth


def share(w: torch.Tensor, h: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the share of W H that the kept atoms have, (batch, mel, frames), in [0, 1].

    Where no atom is active every atom gets the same share, so that shares sum to one everywhere.
    W, (mel, atoms), and H, (batch, atoms, frames), are >= 0; `keep` has the shape of H, or one
    frame, in [0, 1].
    """
    floor = 1e-12
    kept = w @ (h * keep) + floor * keep.mean(dim=1, keepdim=True)
    return kept / (w @ h + floor)


def stretch(values: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Interpolate (..., frames of a layer) to the front end's frames, linear between centres.

    A layer's frame stands for 2**k frames of the front end; beyond the outer centres the value
    stays.
    """
    n_coarse = values.shape[-1]
    step = frames_per_step(n_frames, n_coarse)
    frame = torch.arange(n_frames, device=values.device)
    place = ((frame + 0.5) / step - 0.5).clamp(0, n_coarse - 1)
    left = place.floor().long()
    right = (left + 1).clamp_max(n_coarse - 1)
    return torch.lerp(values[..., left], values[..., right], place - left)


def sign_mask(
    relevance: torch.Tensor, frames: Sequence[int], *, exponent: float = 0.7, floor: float = 0.4,
    smooth: bool = True,
) -> torch.Tensor:  # fmt: skip
    """Keep where relevance, (batch, bands, frames), is positive, on several grids of frames.

    The mean of the signs on all of them, smoothed over bands before if asked to, to a power below
    one, and never under the floor: the gradient equaliser of a relevance that is a gradient.
    """
    n_frames, total = relevance.shape[2], 0
    if smooth:
        weights = torch.exp(-torch.arange(-3.0, 4.0, device=relevance.device).square() / 2)
        padded = nn.functional.pad(relevance.transpose(1, 2), (3, 3), mode="replicate")
        relevance = (padded.unfold(2, 7, 1) @ (weights / weights.sum())).transpose(1, 2)
    for n in frames:
        pooled = relevance.mean(dim=2, keepdim=True) if n == 1 else pool_frames(relevance, n)
        total = total + stretch((pooled > 0).float(), n_frames)
    return (total / len(frames)).pow(exponent).clamp_min(floor)


def in_random_places(mask: torch.Tensor) -> torch.Tensor:
    """Return smooth random masks that have each mask's own values, in random places."""
    noise = torch.rand(len(mask), 1, *NOISE_GRID, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(noise.to(mask.device), mask.shape[1:], mode="bicubic")
    order = smooth.flatten(1).argsort(dim=1).argsort(dim=1)
    return mask.flatten(1).sort(dim=1).values.gather(1, order).reshape(mask.shape)


def _reach(front_end: LogMel) -> int:
    """Return up to which sample the frames can rebuild a sound."""
    settings = front_end.settings
    return (settings.n_frames - 1) * settings.hop_length + settings.n_fft // 4


def both_sides(
    front_end: LogMel, waveforms: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a mask keeps, and what it removes: that of one minus the mask."""
    kept = cut_out(front_end, waveforms, mask)
    removed = waveforms - kept
    removed[:, _reach(front_end) :] = 0
    return kept, removed


@torch.no_grad()
def cut_out(front_end: LogMel, waveforms: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the sound, (batch, samples), that a mask of factors on the amplitude keeps.

    Complex STFT, mask, inverse STFT: linear in the mask, so the sounds of masks that sum to one sum
    to the clip, as far as the frames reach (a quarter of n_fft beyond the last one's centre).
    """
    settings, n_samples = front_end.settings, waveforms.shape[1]
    options = {"window": front_end.window, "length": min(_reach(front_end), n_samples)}
    spread = lift(front_end.mel_basis)
    sounds = []
    for some, factors in zip(waveforms.split(BATCH), mask.split(BATCH), strict=True):
        spectrum = front_end.stft(some) * (spread @ factors)
        sound = torch.istft(spectrum, settings.n_fft, settings.hop_length, **options)
        sounds.append(nn.functional.pad(sound, (0, n_samples - sound.shape[1])))
    return torch.cat(sounds)
