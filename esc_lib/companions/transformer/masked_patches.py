"""Hidden patches of a spectrogram, and a spectrogram transformer that fills them in.

What is hidden is removed from the input, so that overlapping neighbours do not give it away, and
only what is hidden is asked for.
"""

import torch
from torch import nn
from torch.nn.functional import fold, max_pool2d, unfold

from esc_lib.companions.transformer.network import (
    N_SPECIAL,
    SpectrogramAST,
    grid_size,
    input_values_of,
)


class MaskedPatches(nn.Module):
    """The encoder of a network with a decoder, one dense layer, from token to patch.

    Hidden points of the spectrogram are set to 0, the clip's mean. The token of a hidden patch is
    thus the projection's bias plus its position: the same for every hidden patch, as a learned
    mask token would be. The publication cuts patches without overlap for this part of the
    training; here patch and step stay as they are.

    By gong2022ssast, section 2: clusters of patches, a head on their tokens, reconstruction; by
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
        """Predict every patch from what is left, shape (batch, rows * columns, patch * patch).

        Features are standardised, (batch, 1, mel, frames); masked is bool, (batch, rows, columns),
        True where a patch is hidden.
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
        return fold(points, features.shape[2:], self.patch, stride=self.step)


def random_masks(
    batch: int, grid: tuple[int, int], share: float, cluster: int, generator: torch.Generator
) -> torch.Tensor:
    """Choose patches to hide, the same number in every item, in squares at random places.

    It returns bool, (batch, rows, columns). The share is in (0, 1); at least one patch is hidden
    and one is left. A cluster is an odd number of patches a side of a square; 1 hides single ones.
    ValueError if one of them is out of range.
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
