"""What our masks are compared with: other people's maps, and controls that explain nothing."""

from __future__ import annotations

import warnings

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from esc_lib.explain.relevance import logits_score, maps_and_gradients
from esc_lib.machine.hardware import autocast

SAMPLES = 8  # noisy copies of SmoothGrad, and steps of the integrated gradients
NOISE = 0.3  # deviation of SmoothGrad's noise; the features have deviation 1


class _FastPrecision(nn.Module):
    """The same network, in the machine's fast precision, with float32 logits."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with autocast(features.device):
            return self.model(features).float()


def _by_batches(attribute, features: torch.Tensor, targets: torch.Tensor, size: int):
    """Return the attributions of all batches; captum warns of an input without a gradient."""
    batches = zip(features.split(size), targets.split(size), strict=True)
    return torch.cat(
        [
            attribute(some.clone().requires_grad_(), classes).detach()[:, 0]
            for some, classes in batches
        ]
    )


def saliency(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the size of the class logit's gradient, (batch, mel, frames).

    References
    ----------
    simonyan2014deep
    """
    method = Saliency(_FastPrecision(model))
    return _by_batches(
        lambda some, classes: method.attribute(some, target=classes), features, targets, 16
    )


def smoothgrad(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean saliency over noisy copies of each clip, (batch, mel, frames).

    References
    ----------
    smilkov2017smoothgrad
    """
    method = NoiseTunnel(Saliency(_FastPrecision(model)))

    def attribute(some, classes):
        return method.attribute(
            some, nt_type="smoothgrad", nt_samples=SAMPLES, nt_samples_batch_size=1,
            stdevs=NOISE, target=classes,
        )  # fmt: skip

    devices = [features.device] if features.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return _by_batches(attribute, features, targets, 16)


def integrated_gradients(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return what supports the class on the way from each clip's minimum, (batch, mel, frames).

    The baseline is the quietest value of the clip's own features: silence, as the network sees it.
    Only what speaks for the class is kept.

    References
    ----------
    sundararajan2017axiomatic
    """
    method = IntegratedGradients(_FastPrecision(model))

    def attribute(some, classes):
        silence = some.amin(dim=(1, 2, 3), keepdim=True).expand_as(some)
        return method.attribute(
            some, silence, target=classes, n_steps=SAMPLES, internal_batch_size=16
        ).clamp_min(0)

    return _by_batches(attribute, features, targets, 16)


def deep_feature_factorization(
    model: nn.Module,
    layer: str,
    features: torch.Tensor,
    targets: torch.Tensor,
    n_factors: int = 16,
    seed: int = 0,
) -> torch.Tensor:
    """Return where a layer's concepts lie that speak for the class, (batch, mel, frames), >= 0.

    Plain NMF of the clips' activation maps, every position a sample. A concept counts in a clip
    with the class logit's gradient along its channels, if that is positive.

    Parameters
    ----------
    model : nn.Module in evaluation mode.
    layer : str
    features : tensor, shape (batch, 1, mel, frames).
    targets : int tensor, shape (batch,).

    References
    ----------
    collins2018deep; the choice of concepts by gradient is ours, the paper has no class.
    """
    found = list(maps_and_gradients(model, (layer,), features, targets, logits_score))
    maps, gradient = (torch.cat([one[layer][i] for one in found]) for i in (0, 1))
    positions = maps.permute(0, 2, 3, 1)
    shape = positions.shape[:3]
    samples = positions.flatten(0, 2).double().cpu().numpy()
    n_factors = min(n_factors, *samples.shape)
    nmf = NMF(n_factors, init="nndsvda", max_iter=100, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last digits are not needed
        concepts = nmf.fit_transform(samples)
    concepts = torch.from_numpy(concepts).to(gradient).reshape(*shape, -1)
    channels = torch.from_numpy(nmf.components_).to(gradient)
    supports = (gradient.mean(dim=(2, 3)) @ channels.T).clamp_min(0)  # (batch, factors)
    heat = torch.einsum("bftk,bk->bft", concepts, supports)
    return nn.functional.interpolate(heat[:, None], features.shape[2:], mode="bilinear")[:, 0]


def as_mask(heat: torch.Tensor, exponent: float, width: int) -> torch.Tensor:
    """Make a heat map, (batch, mel, frames) >= 0, a mask: smoothed, at most 1, to a power.

    Parameters
    ----------
    heat : tensor
    exponent : float, below 1 keeps more.
    width : int, odd: frames that are averaged, and a third as many bands; 1 leaves it as it is.

    Notes
    -----
    The highest hundredth of each map counts as 1: single points would set the scale otherwise.
    """
    if width > 1:
        bands = max(1, width // 3 // 2 * 2 + 1)
        heat = nn.functional.avg_pool2d(
            heat[:, None], (bands, width), 1, (bands // 2, width // 2), count_include_pad=False
        )[:, 0]
    # clip by clip: torch takes no quantile of more than 2**24 values at once
    top = torch.stack([one.flatten().quantile(0.99) for one in heat]).clamp_min(1e-12)
    return (heat / top[:, None, None]).clamp(0, 1) ** exponent


# ---------------------------------------------------------------------------------- controls


def constant(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask that is the mean of the given one everywhere: nothing but a change of level."""
    return mask.mean(dim=(1, 2), keepdim=True).expand_as(mask)


def shuffled(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each mask, (batch, mel, frames), around in its clip, as on a torus: same area, same
    shapes, other place.
    """
    n, n_mel, n_frames = mask.shape
    moved = [
        one.roll(
            (
                int(torch.randint(n_mel // 4, 3 * n_mel // 4, (), generator=generator)),
                int(torch.randint(n_frames // 4, 3 * n_frames // 4, (), generator=generator)),
            ),
            (0, 1),
        )
        for one in mask
    ]
    return torch.stack(moved)


def random_like(mask: torch.Tensor, generator: torch.Generator, grid=(8, 13)) -> torch.Tensor:
    """Return smooth random masks that have the values of the given ones, in random places."""
    noise = torch.rand(len(mask), 1, *grid, generator=generator).to(mask.device)
    smooth = nn.functional.interpolate(noise, mask.shape[1:], mode="bicubic").flatten(1)
    order = smooth.argsort(dim=1).argsort(dim=1)
    return mask.flatten(1).sort(dim=1).values.gather(1, order).reshape(mask.shape)


def random_atoms(
    keep: torch.Tensor, in_use: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Deal the kept atoms' times out to other atoms, of those in use: as many, but any.

    Parameters
    ----------
    keep : tensor, shape (batch, atoms, frames).
    in_use : bool tensor, shape (atoms,).
    """
    index = torch.nonzero(in_use).flatten()
    dealt = keep.clone()
    for clip in range(len(keep)):
        dealt[clip, index] = keep[clip, index[torch.randperm(len(index), generator=generator)]]
    return dealt


def ideal(target: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the ratio mask that knows both sources, of mel magnitudes (batch, mel, frames)."""
    return target / (target + other).clamp_min(1e-12)
