"""Controls: our masks with what matters taken out of them; and the mask of one who knows.

Each is a function of an :class:`~esc_lib.explain.explainer.Explainer` and returns masks, shape
(clips, mel, frames). The first ones take the hidden layer away and leave the gradient: what they
score as well as our mask, no hidden layer is needed for.
"""

import torch

from esc_lib.dictionaries.atoms import used
from esc_lib.explain.components import Components
from esc_lib.explain.explainer import Explainer, Layers
from esc_lib.explain.masks import in_random_places, sign_mask
from esc_lib.layers.hooks import record, reduce_frequency
from esc_lib.machine.hardware import autocast


def no_layer(explainer: Explainer) -> torch.Tensor:
    """Put H = 1 in the place of every layer's H, in relevance and mask."""
    layers: Layers = {
        block: (ones, torch.zeros_like(ones))  # gradient times activation went with the layer
        for block, (h, _) in explainer.layers.items()
        for ones in [_one_level(explainer, block, h)]
    }
    return explainer.components(layers=layers)


def _one_level(explainer: Explainer, block: str, h: torch.Tensor) -> torch.Tensor:
    """Return an H, (clips, atoms, frames), that stands at 1 once it is on the level of W."""
    scale = explainer.fitted[block, explainer.choice.dictionary].scale
    return torch.where(scale > 0, 1 / scale, 0.0)[:, None].expand_as(h)


def permuted(explainer: Explainer) -> torch.Tensor:
    """Deal the rows of every layer's H, and their relevance, out among channels, all clips alike.

    Rows are on one level before they are dealt.
    """
    generator, layers = torch.Generator().manual_seed(0), {}
    for block, (h, channels) in explainer.layers.items():
        scale = explainer.fitted[block, explainer.choice.dictionary].scale[:, None]
        dealt = torch.randperm(h.shape[1], generator=generator).to(h.device)
        level = torch.where(scale > 0, (h * scale)[:, dealt] / scale, 0.0)
        layers[block] = level, channels[:, dealt]
    return explainer.components(layers=layers)


def untrained(explainer: Explainer) -> torch.Tensor:
    """Take H, and the dictionaries over it, from networks with random weights, in turn by clip."""
    others, masks = explainer.untrained, torch.empty_like(explainer.features[:, 0])
    for turn, (model, fitted) in enumerate(others):
        part = explainer.part(torch.arange(turn, len(explainer.features), len(others)))
        layers = list(part.layers)
        with torch.no_grad(), record(model, layers) as maps, autocast(part.features.device):
            model(part.features)
        h = {block: reduce_frequency(maps[block].float()) for block in layers}
        layers = {block: (one, torch.zeros_like(one)) for block, one in h.items()}
        masks[turn :: len(others)] = part.components(layers=layers, fitted=fitted)
    return masks


def equaliser(explainer: Explainer, form: str = "smoothed") -> torch.Tensor:
    """Keep what the sound's gradient speaks for: no dictionary, no hidden layer.

    The sign of the gradient, "smoothed" over bands and on the blocks' frames, "per bin" as it is,
    or "static", one gain per clip and band.
    """
    return signs(explainer, explainer.bands, form)


def signs(explainer: Explainer, relevance: torch.Tensor, form: str = "smoothed") -> torch.Tensor:
    """Return masks in the shape of ours of any signed relevance of bands, (clips, mel, frames)."""
    n_frames, choice = relevance.shape[2], explainer.choice
    frames = {
        "smoothed": [h.shape[2] for h, _ in explainer.layers.values()],
        "per bin": [n_frames],
        "static": [1],
    }[form]
    shape = {"exponent": choice.exponent, "floor": choice.floor}
    return sign_mask(relevance, frames, smooth=form == "smoothed", **shape)


def constant(explainer: Explainer) -> torch.Tensor:
    """Return the mean of our mask everywhere: nothing but a change of level."""
    mask = explainer.components()
    return mask.mean(dim=(1, 2), keepdim=True).expand_as(mask)


def random_mask(explainer: Explainer) -> torch.Tensor:
    """Return smooth random masks that have the values of ours, in random places."""
    return in_random_places(explainer.components())


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
    """Return the ratio mask that knows both sounds of a mixture, and which one is explained."""
    parts = explainer.inputs.sound_of(explainer.targets)
    wanted, unwanted = (explainer.front_end.mel_power(part).sqrt() for part in parts)
    return wanted / (wanted + unwanted).clamp_min(1e-12)
