"""Pictures changed a little, so that an encoder does not lean on who spoke or wrote them."""

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from esc_lib.sound.augment import mask_stripes

# at strength 1, each drawn evenly between minus and plus
STRETCH = {"time": 0.2, "frequency": 0.1}  # octaves of the size of a picture
SHIFT = {"time": 0.12, "frequency": 0.04}  # halves of a picture
# grey goes from 0, black, to 2
GAIN, LIFT, TILT = 0.15, 0.1, 0.12  # octaves; of what is not black; of the highest row
FLOOR, GRAIN = 0.8, 0.1  # highest level of noise that covers what is below, and its own deviation
MASK = 0.1  # widest stripe, as a share of a picture


def distort(pictures: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Stretch, shift, brighten, tilt, cover with noise and mask each picture of a batch by chance.

    Pictures are (batch, channels, 64, 64) in [-1, 1], columns time and rows frequency, and stay as
    they are; strength 0 is no change. What comes in from outside a picture is black. Every other
    picture gets no noise.

    References
    ----------
    park2019specaugment, section 2 (the masks)
    """
    if not strength:
        return pictures

    def draw(limit: float) -> torch.Tensor:
        values = rng.uniform(-strength * limit, strength * limit, len(pictures))
        return torch.from_numpy(values).to(pictures).view(-1, 1, 1, 1)

    moves = pictures.new_zeros(len(pictures), 2, 3)
    for row, axis in enumerate(("time", "frequency")):
        moves[:, row, row] = 2 ** draw(STRETCH[axis]).flatten()
        moves[:, row, 2] = draw(SHIFT[axis]).flatten()
    grid = affine_grid(moves, list(pictures.shape), align_corners=False)
    light = grid_sample(pictures + 1, grid, align_corners=False)  # 0 is black
    gain, lift, tilt, floor = (draw(limit) for limit in (GAIN, LIFT, TILT, FLOOR))
    height = torch.linspace(-1, 1, pictures.shape[2]).to(pictures).view(1, 1, -1, 1)
    light = light * 2**gain + (light > 0) * (lift + tilt * height)
    grain = torch.from_numpy(rng.standard_normal(light.shape)).to(light)
    light = torch.where(floor > 0, light.maximum(floor + GRAIN * grain), light)
    return mask_stripes(light.clamp(0, 2), strength * MASK, rng) - 1
