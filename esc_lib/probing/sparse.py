"""A layer's frames in another basis than its channels: few of many units, a k-sparse autoencoder.

A frame is H at one time: its channels, averaged over frequency. Channels are brought to one root
mean square first, so that none is left out because it is quiet.

References
----------
makhzani2014ksparse; gao2025scaling for the units that are silent, and the start.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

BATCH = 256  # frames a step
LEARNING_RATE = 3e-3
SILENT = 50  # steps after which a unit that was never among the k counts as silent
SILENT_WEIGHT = 1 / 32  # of what silent units make of the error that is left


def frames_of(h: torch.Tensor) -> torch.Tensor:
    """Return the frames of clips, (clips * frames, channels) of (clips, channels, frames)."""
    return h.transpose(1, 2).flatten(0, 1)


def strongest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return (frames, units) with all but the `k` largest values of each frame set to 0."""
    found, units = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter(1, units, found)


def root_mean_square(h: torch.Tensor) -> torch.Tensor:
    """Return each channel's, (channels,), of H, (clips, channels, frames); 1 if it is silent."""
    found = h.square().mean(dim=(0, 2)).sqrt()
    return torch.where(found > 0, found, 1.0)


@dataclass(frozen=True)
class Sparse:
    """A basis of directions in the space of a layer's channels, `k` of them active in a frame."""

    name: str
    k: int
    scale: torch.Tensor  # (channels,), root mean square of each channel
    mean: torch.Tensor  # (channels,), of scaled frames: where all codes are 0
    encoder: torch.Tensor  # (units, channels)
    bias: torch.Tensor  # (units,)
    decoder: torch.Tensor  # (units, channels), what a unit writes at code 1

    def codes(self, h: torch.Tensor) -> torch.Tensor:
        """Return the units' codes, >= 0, (clips, units, frames) of H, (clips, channels, frames)."""
        return self._codes(frames_of(h) / self.scale).unflatten(0, (len(h), -1)).transpose(1, 2)

    def _codes(self, frames: torch.Tensor) -> torch.Tensor:
        before = (frames - self.mean) @ self.encoder.T + self.bias
        return strongest(before.relu(), self.k)

    def written(self, codes: torch.Tensor) -> torch.Tensor:
        """Return what codes, (clips, units, frames), write into H, (clips, channels, frames)."""
        return (self.decoder.T @ codes) * self.scale[:, None]

    def rebuilt(self, h: torch.Tensor) -> torch.Tensor:
        """Return H as the codes tell it, (clips, channels, frames)."""
        return self.written(self.codes(h)) + (self.mean * self.scale)[:, None]

    def dead(self, h: torch.Tensor) -> float:
        """Return the share of units that are silent in all frames of H."""
        return float((self.codes(h).amax(dim=(0, 2)) == 0).float().mean())

    def left(self, h: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """Return the share of H, (batch, channels, frames), that is left without some units.

        What they write is taken away, not below 0; units are bool, (batch, units).
        """
        rest = (h - self.written(self.codes(h) * gone[:, :, None])).clamp_min(0)
        return torch.where(h > 0, rest / h.clamp_min(1e-12), 0.0)


class _Autoencoder(nn.Module):
    """What is trained; the decoder's rows keep norm 1, or small codes would cost nothing."""

    def __init__(self, start: Sparse):
        super().__init__()
        self.mean = nn.Parameter(start.mean.clone())
        self.encoder = nn.Parameter(start.encoder.clone())
        self.bias = nn.Parameter(start.bias.clone())
        self.decoder = nn.Parameter(start.decoder.clone())

    def forward(self, frames: torch.Tensor, k: int) -> tuple[torch.Tensor, ...]:
        """Return what the units are before and after k are chosen, and the error that is left."""
        before = ((frames - self.mean) @ self.encoder.T + self.bias).relu()
        codes = strongest(before, k)
        return before, codes, frames - self.mean - codes @ self.decoder

    @torch.no_grad()
    def to_norm(self) -> None:
        """Bring the decoder's rows to norm 1."""
        self.decoder /= self.decoder.norm(dim=1, keepdim=True).clamp_min(1e-8)


def random_basis(h: torch.Tensor, units: int, k: int, generator: torch.Generator) -> Sparse:
    """Return a basis whose directions are random: where training starts, and its control.

    The codes of H, (clips, channels, frames), rebuild it as well as a linear map of them can.

    Raises
    ------
    ValueError : `k` is not one of 1 to `units`, or H holds no sound.
    """
    if not 1 <= k <= units:
        raise ValueError(f"random_basis: k={k} units active, expected 1 to {units}.")
    if not (h > 0).any():
        raise ValueError("random_basis: H is 0 everywhere; give a layer's output on some clips.")
    scale = root_mean_square(h)
    frames = frames_of(h) / scale
    directions = torch.randn(units, h.shape[1], generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    mean, bias = frames.mean(dim=0), torch.zeros(units)
    bare = Sparse("random", k, scale, mean, directions, bias, directions)
    codes = bare._codes(frames)
    gram = codes.T @ codes + 1e-3 * len(frames) * torch.eye(units)  # a little ridge: codes overlap
    decoder = torch.linalg.solve(gram, codes.T @ (frames - bare.mean))
    return replace(bare, decoder=decoder)


def fit_sparse(h: torch.Tensor, units: int, k: int, steps: int, seed: int) -> Sparse:
    """Fit a k-sparse autoencoder to the frames of H, (clips, channels, frames).

    The loss is the squared error, relative to the frames' variance; units that were silent for
    `SILENT` steps are also asked to explain the error that is left, lest they stay so.

    Raises
    ------
    ValueError : as for :func:`random_basis`.
    """
    generator = torch.Generator().manual_seed(seed)
    start = random_basis(h, units, k, generator)
    start = replace(start, decoder=start.encoder)
    frames = frames_of(h) / start.scale
    variance = (frames - start.mean).square().mean().clamp_min(1e-12)
    model = _Autoencoder(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    silent = torch.zeros(units)
    for _ in range(steps):
        batch = frames[torch.randint(len(frames), (BATCH,), generator=generator)]
        before, codes, error = model(batch, k)
        loss = error.square().mean()
        silent = torch.where(codes.amax(dim=0) > 0, 0.0, silent + 1)
        asked = silent > SILENT
        if asked.any():
            own = strongest(before * asked, min(2 * k, units)) @ model.decoder
            loss = loss + SILENT_WEIGHT * (error.detach() - own).square().mean()
        optimizer.zero_grad()
        (loss / variance).backward()
        optimizer.step()
        schedule.step()
        model.to_norm()
    learned = {name: value.detach() for name, value in model.named_parameters()}
    return Sparse("sparse", k, start.scale, **learned)
