"""Pictures changed a little, so that an encoder does not lean on who spoke or wrote them."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from esc_lib.augment import mask_stripes

# at strength 1, each drawn evenly between minus and plus
STRETCH = {"time": 0.4, "frequency": 0.2}  # octaves of the size of a picture
SHIFT = {"time": 0.24, "frequency": 0.08}  # halves of a picture
GAIN, LIFT, TILT = 0.3, 0.2, 0.25  # octaves; grey of what is not black; of the highest row
MASK = 0.2  # widest stripe, as a share of a picture


def distort(pictures: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Stretch, shift, brighten, tilt and mask each picture of a batch by chance.

    Parameters
    ----------
    pictures : float tensor, shape (batch, channels, 64, 64), in [-1, 1]; not modified.
    strength : float, 0 for no change; columns are time and rows are frequency.
    rng : Generator

    Returns
    -------
    tensor of the same shape, in [-1, 1]; what comes in from outside a picture is black.

    References
    ----------
    park2019specaugment, section 2 (the masks)
    """

    def draw(limit: float) -> torch.Tensor:
        values = rng.uniform(-strength * limit, strength * limit, len(pictures))
        return torch.from_numpy(values).to(pictures)

    moves = pictures.new_zeros(len(pictures), 2, 3)
    for row, axis in enumerate(("time", "frequency")):
        moves[:, row, row] = 2 ** draw(STRETCH[axis])
        moves[:, row, 2] = draw(SHIFT[axis])
    grid = affine_grid(moves, list(pictures.shape), align_corners=False)
    light = grid_sample(pictures + 1, grid, align_corners=False)  # 0 is black
    gain, lift, tilt = (draw(limit).view(-1, 1, 1, 1) for limit in (GAIN, LIFT, TILT))
    height = torch.linspace(-1, 1, pictures.shape[2]).to(pictures).view(1, 1, -1, 1)
    light = light * 2**gain + (light > 0) * (lift + tilt * height)
    return mask_stripes(light.clamp(0, 2), strength * MASK, rng) - 1
