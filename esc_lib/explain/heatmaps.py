"""Other people's explanations: heat maps of where a class is supported, and the masks they become.

Each is a function of a network in evaluation mode, its features, shape (batch, 1, mel, frames),
and the class explained for each clip, int tensor (batch,); it returns (batch, mel, frames), >= 0.

References
----------
selvaraju2017gradcam, equations 1 and 2; simonyan2014deep for the saliency; smilkov2017smoothgrad;
sundararajan2017axiomatic; collins2018deep, which has no class: to choose its concepts by the
gradient is ours.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Saliency
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from esc_lib.explain.conditions import BATCH
from esc_lib.explain.relevance import log_odds, maps_and_gradients, of_target
from esc_lib.machine.hardware import autocast

SAMPLES = 8  # noisy copies of SmoothGrad, and steps of the integrated gradients
NOISE = 0.3  # deviation of SmoothGrad's noise; the features have deviation 1
FACTORS = 16  # concepts of Deep Feature Factorization


@dataclass(frozen=True)
class Shape:
    """How a heat map becomes a mask: smoothed, at most 1, to a power.

    The highest hundredth of each map counts as 1: single points would set the scale otherwise.
    """

    exponent: float = 0.125  # below 1 keeps more
    width: int = 9  # odd: frames that are averaged, and a third as many bands; 1: none
    floor: float = 0.0  # the least value of the mask

    def mask(self, heat: torch.Tensor) -> torch.Tensor:
        """Return masks of heat maps >= 0, both (clips, mel, frames)."""
        if self.width > 1:
            bands = max(1, self.width // 3 // 2 * 2 + 1)
            heat = nn.functional.avg_pool2d(
                heat[:, None], (bands, self.width), 1, (bands // 2, self.width // 2),
                count_include_pad=False,
            )[:, 0]  # fmt: skip
        # clip by clip: torch takes no quantile of more than 2**24 values at once
        top = torch.stack([one.flatten().quantile(0.99) for one in heat]).clamp_min(1e-12)
        mask = (heat / top[:, None, None]).clamp(0, 1) ** self.exponent
        return mask.clamp_min(self.floor)


class _FastPrecision(nn.Module):
    """The same network, in the machine's fast precision, with float32 logits."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with autocast(features.device):
            return self.model(features).float()


class _LogOdds(nn.Module):
    """Logits, (batch, classes), to each class's log-odds against all others."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        classes = torch.arange(logits.shape[1], device=logits.device)
        return torch.stack([log_odds(logits, one.expand(len(logits))) for one in classes], dim=1)


def _by_batches(attribute: Callable, features: torch.Tensor, targets: torch.Tensor, **options):
    """Return the attributions of all batches; captum warns of an input without a gradient."""
    found, targets = [], targets.to(features.device)
    for some, target in zip(features.split(BATCH), targets.split(BATCH), strict=True):
        found.append(attribute(some.clone().requires_grad_(), target=target, **options).detach())
    return torch.cat(found)[:, 0]


def _on_grid(maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Interpolate a layer's (batch, mel, frames) to the features' bands and frames."""
    return nn.functional.interpolate(maps[:, None], features.shape[2:], mode="bilinear")[:, 0]


def gradcam(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor, layer: str = "conv_block5"
) -> torch.Tensor:
    """Return Grad-CAM maps, each divided by its own maximum; one of zeros stays as it is.

    Raises
    ------
    ValueError
        If the model has no layer of that name.
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        children = ", ".join(name for name, _ in model.named_children())
        raise ValueError(f"gradcam: layer={layer!r} is unknown; choose one of {children}.")
    attribute = LayerGradCam(model, modules[layer]).attribute
    coarse = _by_batches(attribute, features, targets, relu_attributions=True)
    maps = _on_grid(coarse, features).clamp_min(0)
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def saliency(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the size of the class logit's gradient."""
    return _by_batches(Saliency(_FastPrecision(model)).attribute, features, targets)


def smoothgrad(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean saliency over noisy copies of each clip."""
    attribute = NoiseTunnel(Saliency(_FastPrecision(model))).attribute
    options = {"nt_type": "smoothgrad", "nt_samples": SAMPLES, "nt_samples_batch_size": 1}
    with torch.random.fork_rng([features.device] if features.is_cuda else []):
        torch.manual_seed(0)
        return _by_batches(attribute, features, targets, stdevs=NOISE, **options)


def integrated_gradients(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return what supports the class on the way from each clip's minimum.

    Only what speaks for the class's logit is kept.
    """
    return _integrate(_FastPrecision(model), features, targets).clamp_min(0)


def signed_integrated_gradients(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return what supports the class's log-odds on that way, and, negative, what speaks against."""
    return _integrate(nn.Sequential(_FastPrecision(model), _LogOdds()), features, targets)


def _integrate(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Integrate gradients from each clip's quietest value: silence, as the network sees it."""
    method = IntegratedGradients(model)

    def attribute(some, target):
        silence = some.amin(dim=(1, 2, 3), keepdim=True).expand_as(some)
        return method.attribute(
            some, silence, target=target, n_steps=SAMPLES, internal_batch_size=BATCH
        )

    return _by_batches(attribute, features, targets)


def feature_factorization(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor, layer: str = "conv_block5"
) -> torch.Tensor:
    """Return where a layer's concepts lie that speak for the class.

    Plain NMF of the clips' activation maps, every position a sample. A concept counts in a clip
    with the class logit's gradient along its channels, if that is positive.
    """
    found = list(maps_and_gradients(model, (layer,), features, targets, of_target))
    maps, gradient = (torch.cat([one[layer][i] for one in found]) for i in (0, 1))
    positions = maps.permute(0, 2, 3, 1)
    samples = positions.flatten(0, 2).double().cpu().numpy()
    nmf = NMF(min(FACTORS, *samples.shape), init="nndsvda", max_iter=100, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last digits are not needed
        concepts = nmf.fit_transform(samples)
    concepts = torch.from_numpy(concepts).to(gradient).reshape(*positions.shape[:3], -1)
    channels = torch.from_numpy(nmf.components_).to(gradient)
    supports = (gradient.mean(dim=(2, 3)) @ channels.T).clamp_min(0)  # (batch, factors)
    return _on_grid(torch.einsum("bftk,bk->bft", concepts, supports), features)
