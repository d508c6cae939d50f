"""Teach a spectrogram transformer without labels: hide patches, let it fill them in.

What is hidden is removed from the input, so that overlapping neighbours do not give it away, and
only what is hidden is asked for.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import fold, max_pool2d, unfold
from tqdm import tqdm

from esc_lib.hardware import autocast, best_device
from esc_lib.models.ast import N_SPECIAL, SpectrogramAST, grid_size, input_values_of


@dataclass(frozen=True)
class Pretraining:
    """How an encoder is taught without labels.

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate, weight_decay : float, AdamW's; the rate rises and falls once.
    share : float, share of the patches that are hidden.
    cluster : int, odd: patches are hidden in squares of so many, as single ones of overlapping
        patches are guessed from their edges.
    crop_frames : int, frames of the excerpt drawn from each clip; 0 takes the whole clip.
    seed : int, of the order, the excerpts, the masks and the decoder's first weights.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    share: float = 0.5
    cluster: int = 3
    crop_frames: int = 0
    seed: int = 0


class MaskedPatches(nn.Module):
    """A spectrogram transformer with a decoder, one dense layer, from token to patch.

    Parameters
    ----------
    network : SpectrogramAST; its encoder is used, its classifier is not.

    Notes
    -----
    Hidden points of the spectrogram are set to 0, the clip's mean. The token of a hidden patch is
    thus the projection's bias plus its position: the same for every hidden patch, as a learned
    mask token would be.

    References
    ----------
    gong2022ssast, section 2: clusters of patches, a head on their tokens, reconstruction;
    he2022mae for the squared error on hidden patches only.
    """

    def __init__(self, network: SpectrogramAST):
        super().__init__()
        self.network = network
        config = network.config
        self.patch, self.step = config.patch_size, (config.frequency_stride, config.time_stride)
        self.decoder = nn.Linear(config.hidden_size, self.patch**2)

    def grid(self, features: torch.Tensor) -> tuple[int, int]:
        """Return how many patches features (batch, 1, mel, frames) have: rows, columns."""
        return grid_size(self.network.config, *features.shape[2:])

    def forward(self, features: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Predict every patch from what is left.

        Parameters
        ----------
        features : tensor, shape (batch, 1, mel, frames), standardised.
        masked : bool tensor, shape (batch, rows, columns), True where a patch is hidden.

        Returns
        -------
        predicted : tensor, shape (batch, rows * columns, patch * patch).
        """
        seen = features * ~self.hidden(features, masked)
        tokens = self.network.encoder(input_values_of(seen)).last_hidden_state
        return self.decoder(tokens[:, N_SPECIAL:])

    def loss(self, features: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error on hidden patches.

        About 1 for one who only knows that the mean is 0 and the deviation 1.
        """
        error = self(features, masked).float() - self.patches(features)
        return error.square().mean(dim=2)[masked.flatten(1)].mean()

    def patches(self, features: torch.Tensor) -> torch.Tensor:
        """Return the points of every patch, shape (batch, rows * columns, patch * patch)."""
        return unfold(features, self.patch, stride=self.step).transpose(1, 2)

    def hidden(self, features: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Return which points of the spectrogram are hidden, shape (batch, 1, mel, frames)."""
        points = masked.flatten(1)[:, None].expand(-1, self.patch**2, -1)
        return self._fold(points.to(features.dtype), features) > 0

    @torch.no_grad()
    def rebuild(self, features: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Return the spectrogram with what was hidden filled in, shape (batch, 1, mel, frames).

        Where hidden patches overlap, their predictions are averaged.
        """
        chosen = masked.flatten(1)[..., None].float()
        predicted = self(features, masked).float() * chosen
        total = self._fold(predicted.transpose(1, 2), features)
        count = self._fold(chosen.expand_as(predicted).transpose(1, 2), features)
        return torch.where(count > 0, total / count.clamp_min(1), features)

    def _fold(self, points: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Sum patches, (batch, patch * patch, patches), at their places in the spectrogram."""
        covered = [
            (n - 1) * s + self.patch for n, s in zip(self.grid(features), self.step, strict=True)
        ]
        summed = fold(points, covered, self.patch, stride=self.step)
        rest = [size - c for size, c in zip(features.shape[2:], covered, strict=True)]
        return nn.functional.pad(summed, (0, rest[1], 0, rest[0]))


def random_masks(
    batch: int,
    grid: tuple[int, int],
    share: float,
    cluster: int,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Choose patches to hide, the same number in every item, in squares at random places.

    Parameters
    ----------
    batch : int
    grid : (rows, columns) of patches.
    share : float, in (0, 1); at least one patch is hidden and one is left.
    cluster : int, odd; 1 hides single patches.
    generator : torch.Generator on the CPU.

    Returns
    -------
    masked : bool tensor, shape (batch, rows, columns).

    Raises
    ------
    ValueError
        If `share` or `cluster` is out of range.
    """
    if not 0 < share < 1 or cluster < 1 or cluster % 2 == 0:
        raise ValueError(
            f"random_masks: share={share}, cluster={cluster}; give a share between 0 and 1 and an "
            "odd cluster."
        )
    n_patches = grid[0] * grid[1]
    n_masked = min(max(1, round(share * n_patches)), n_patches - 1)
    noise = torch.rand(batch, 1, *grid, generator=generator)
    # a square around each high value ranks as high as its middle
    spread = max_pool2d(noise, cluster, stride=1, padding=cluster // 2)
    chosen = spread.flatten(1).topk(n_masked, dim=1).indices
    masked = torch.zeros(batch, n_patches, dtype=torch.bool).scatter_(1, chosen, True)
    return masked.view(batch, *grid)


@dataclass(frozen=True)
class Pretrained:
    """Outcome of :func:`pretrain`.

    Attributes
    ----------
    model : MaskedPatches in evaluation mode on the CPU; ``model.network`` is what is fine-tuned.
    history : DataFrame, a row per epoch: epoch, train_loss, validation_loss (NaN without
        validation clips), seconds.
    """

    model: MaskedPatches
    history: pd.DataFrame


def pretrain(
    network: SpectrogramAST,
    features: torch.Tensor,
    settings: Pretraining,
    validation: torch.Tensor | None = None,
) -> Pretrained:
    """Teach a copy of the network to fill in hidden patches.

    Parameters
    ----------
    network : SpectrogramAST
    features : tensor, shape (clips, 1, mel, frames), standardised, no labels.
    settings : Pretraining
    validation : tensor like `features`, of clips that are only measured, always under the same
        masks.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    device = best_device()
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = MaskedPatches(copy.deepcopy(network).requires_grad_(True)).to(device)
        n_steps = -(-len(features) // settings.batch_size)
        learning = [p for name, p in model.named_parameters() if ".classifier." not in name]
        optimizer = torch.optim.AdamW(
            learning, settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.epochs * n_steps, pct_start=0.15
        )
        rows = []
        bar = tqdm(total=settings.epochs * n_steps, desc="pre-training", unit="batch", leave=False)
        for epoch in range(1, settings.epochs + 1):
            started = time.perf_counter()
            model.train()
            losses = []
            for chosen in torch.randperm(len(features), generator=generator).chunk(n_steps):
                batch = _excerpts(features[chosen], settings.crop_frames, generator).to(device)
                loss = _loss(model, batch, settings, generator)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
                if not np.isfinite(losses[-1]):
                    raise FloatingPointError(
                        f"pretrain: the loss of epoch {epoch} is {losses[-1]}; lower the "
                        "learning rate."
                    )
                bar.set_postfix(epoch=epoch, loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
            measured = float("nan") if validation is None else held_out(model, validation, settings)
            rows.append(
                {
                    "epoch": epoch,
                    "train_loss": float(np.mean(losses)),
                    "validation_loss": measured,
                    "seconds": time.perf_counter() - started,
                }
            )
        bar.close()
    return Pretrained(model.cpu().eval(), pd.DataFrame(rows))


@torch.no_grad()
def held_out(model: MaskedPatches, features: torch.Tensor, settings: Pretraining) -> float:
    """Return the loss on clips that nothing is learned from, under masks of a seed of their own."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed + 1)
    was_training = model.training
    model.eval()
    total = 0.0
    for part in features.split(settings.batch_size):
        batch = _excerpts(part, settings.crop_frames, generator).to(device)
        total += float(_loss(model, batch, settings, generator)) * len(part)
    model.train(was_training)
    return total / len(features)


def _loss(model, batch, settings: Pretraining, generator) -> torch.Tensor:
    masked = random_masks(
        len(batch), model.grid(batch), settings.share, settings.cluster, generator
    ).to(batch.device)
    with autocast(batch.device):
        return model.loss(batch, masked)


def _excerpts(features: torch.Tensor, n_frames: int, generator: torch.Generator) -> torch.Tensor:
    """Cut each clip, (batch, 1, mel, frames), to `n_frames` from a random place; 0: all of it."""
    spare = features.shape[3] - n_frames
    if n_frames == 0 or spare <= 0:
        return features.float()
    starts = torch.randint(spare + 1, (len(features),), generator=generator).tolist()
    pairs = zip(features, starts, strict=True)
    return torch.stack([clip[..., s : s + n_frames] for clip, s in pairs]).float()
