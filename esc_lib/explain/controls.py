"""Controls: our masks with what matters taken out of them; and the mask of one who knows.

Each is a function of an :class:`~esc_lib.explain.explainer.Explainer` and returns masks, shape
(clips, mel, frames).
"""

import torch
from torch import nn

from esc_lib.dictionaries.atoms import used
from esc_lib.explain.components import Components
from esc_lib.explain.explainer import Explainer

GRID = (8, 13)  # bands and frames of the random mask's noise, between which it is smooth


def constant(explainer: Explainer) -> torch.Tensor:
    """Return the mean of our mask everywhere: nothing but a change of level."""
    mask = explainer.components()
    return mask.mean(dim=(1, 2), keepdim=True).expand_as(mask)


def shuffled(explainer: Explainer) -> torch.Tensor:
    """Move our masks around in their clips, as on a torus: same area and shapes, other place."""
    masks, generator = explainer.components(), torch.Generator().manual_seed(0)
    moved = []
    for mask in masks:
        by = [int(torch.randint(n // 4, 3 * n // 4, (), generator=generator)) for n in mask.shape]
        moved.append(mask.roll(by, (0, 1)))
    return torch.stack(moved)


def random_mask(explainer: Explainer) -> torch.Tensor:
    """Return smooth random masks that have the values of ours, in random places."""
    mask, generator = explainer.components(), torch.Generator().manual_seed(0)
    noise = torch.rand(len(mask), 1, *GRID, generator=generator).to(mask.device)
    smooth = nn.functional.interpolate(noise, mask.shape[1:], mode="bicubic").flatten(1)
    order = smooth.argsort(dim=1).argsort(dim=1)
    return mask.flatten(1).sort(dim=1).values.gather(1, order).reshape(mask.shape)


def random_atoms(explainer: Explainer) -> torch.Tensor:
    """Deal the kept atoms' times out to other atoms, of those in use: as many, but any."""
    generator = torch.Generator().manual_seed(0)

    def deal(keep: torch.Tensor, fitted: Components) -> torch.Tensor:
        index = torch.from_numpy(used(fitted.w.cpu().numpy()).nonzero()[0])
        dealt = keep.clone()
        for clip in range(len(keep)):
            drawn = index[torch.randperm(len(index), generator=generator)]
            dealt[clip, index] = keep[clip, drawn]
        return dealt

    return explainer.components(alter=deal)


def another_clips(explainer: Explainer) -> torch.Tensor:
    """Keep the atoms that spoke in the next clip that is explained for another class, if any is."""
    targets = explainer.targets
    n = len(targets)
    away = torch.arange(1, n, device=targets.device)
    ahead = (torch.arange(n, device=targets.device)[:, None] + away) % n  # (clips, others)
    differs = targets[ahead] != targets[:, None]
    other = ahead.gather(1, differs.float().argmax(dim=1, keepdim=True))[:, 0]
    return explainer.components(alter=lambda keep, _fitted: keep[other])


def negative(explainer: Explainer) -> torch.Tensor:
    """Keep the atoms that speak against the class."""
    return explainer.components(alter=lambda keep, _fitted: 1 - keep)


def ideal(explainer: Explainer) -> torch.Tensor:
    """Return the ratio mask that knows both sounds of a mixture."""
    parts = (explainer.inputs.wanted, explainer.inputs.unwanted)
    wanted, unwanted = (explainer.front_end.mel_power(part).sqrt() for part in parts)
    return wanted / (wanted + unwanted).clamp_min(1e-12)
