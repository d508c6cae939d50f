"""Other people's explanations: heat maps of where a class is supported, and the masks they become.

Each is a function of a network in evaluation mode, its features, shape (batch, 1, mel, frames),
and the class explained for each clip, int tensor (batch,); it returns (batch, mel, frames), >= 0.

References
----------
selvaraju2017gradcam, equations 1 and 2; simonyan2014deep for the saliency; smilkov2017smoothgrad;
sundararajan2017axiomatic; zeiler2014visualizing for occlusion; shrikumar2017learning for DeepLIFT;
collins2018deep, which has no class: to choose its concepts by the gradient is ours.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from esc_lib.explain.conditions import BATCH
from esc_lib.explain.relevance import maps_and_gradients, of_target
from esc_lib.layers.gates import BEFORE
from esc_lib.layers.hooks import record
from esc_lib.machine.hardware import autocast
from esc_lib.models.se_cnn import BLOCKS, SECNN

SAMPLES = 8  # noisy copies of SmoothGrad, and steps of the integrated gradients
NOISE = 0.3  # deviation of SmoothGrad's noise; the features have deviation 1
FACTORS = 16  # concepts of Deep Feature Factorization
BANDS = 8  # that occlusion takes out, one after the other
FRAMES = 9  # that it takes out at a time: 0.1 s where a frame is 11.6 ms


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


class _LogOdds(_FastPrecision):
    """The same network, with the log-odds of every class, see ``relevance.log_odds``."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None].masked_fill(own, -torch.inf).logsumexp(dim=2)
        return logits - others


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
    from captum.attr import LayerGradCam  # takes a while to import

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
    from captum.attr import Saliency  # takes a while to import

    return _by_batches(Saliency(_FastPrecision(model)).attribute, features, targets)


def smoothgrad(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean saliency over noisy copies of each clip."""
    from captum.attr import NoiseTunnel, Saliency  # takes a while to import

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
    return _integrate(_LogOdds(model), features, targets)


def _integrate(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Integrate gradients from each clip's quietest value: silence, as the network sees it."""
    from captum.attr import IntegratedGradients  # takes a while to import

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
    from sklearn.decomposition import NMF  # takes a while to import
    from sklearn.exceptions import ConvergenceWarning

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


def _occluded(model: nn.Module, features: torch.Tensor, targets: torch.Tensor, window):
    """Return the fall of the log-odds while one window after the other is silent."""
    from captum.attr import Occlusion  # takes a while to import

    method, shape = Occlusion(_LogOdds(model)), (1, *window)

    def attribute(some, target):
        silence = some.detach().amin(dim=(1, 2, 3), keepdim=True).expand_as(some)
        return method.attribute(some, shape, shape, silence, target=target).clamp_min(0)

    return _by_batches(attribute, features, targets)


def occluded_bands(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return by how much the log-odds fall when an eighth of the bands falls to the clip's minimum.

    The map is the same in all frames. What is left is not standardised anew.
    """
    return _occluded(model, features, targets, (-(-features.shape[2] // BANDS), features.shape[3]))


def occluded_frames(
    model: nn.Module, features: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the same of 0.1 s: the map is the same in all bands."""
    return _occluded(model, features, targets, (features.shape[2], FRAMES))


class _Held(nn.Module):
    """A gate that stays at its clips' factors, (batch or 1, channels), whatever it is given."""

    def __init__(self, factors: torch.Tensor):
        super().__init__()
        self.factors = factors

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        times = len(maps) // len(self.factors)  # captum puts the baselines behind the clips
        return maps * self.factors.repeat(times, 1)[:, :, None, None]


def unrolled(model: SECNN, features: torch.Tensor) -> nn.Sequential:
    """Return the network as a chain for DeepLIFT, its gates held at the factors of these clips.

    DeepLIFT needs a module for each non-linearity, and our blocks use one ReLU twice; it has no
    rule for the product of maps and their own gate; and captum's attributions do not add up where
    one non-linear module feeds another, as pooling does the ReLU, so what is held stands between
    them: a gate is positive. On these clips the chain has the network's logits.
    """
    gates = {block: gate for gate, block in BEFORE.items() if hasattr(getattr(model, gate), "gate")}
    with record(model, list(gates)) as maps, torch.no_grad():
        model(features)
    chain = []
    for name in BLOCKS:
        block = model.get_submodule(name)
        factors = features.new_ones(1, block.conv2.out_channels)
        if name in gates:
            factors = model.get_submodule(gates[name]).gate(maps[name]).detach()
        chain += [block.conv1, block.bn1, nn.ReLU(), block.conv2, block.bn2, block.pool]
        chain += [_Held(factors), nn.ReLU()]
    return nn.Sequential(*chain, model.pool, nn.Flatten(), model.fc1, nn.ReLU(), model.fc2)


def deep_lift(model: nn.Module, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return what supports the class in the difference from the clip's minimum, by DeepLIFT.

    Its rescale rule, on :func:`unrolled`; only what speaks for the class is kept.

    Raises
    ------
    ValueError
        If the model is no SE-CNN: there is no chain of others.
    """
    from captum.attr import DeepLift  # takes a while to import

    if not isinstance(model, SECNN):
        raise ValueError(
            f"deep_lift: model is a {type(model).__name__}, which is no chain of modules; explain "
            "an SECNN, or take integrated_gradients."
        )

    def attribute(some, target):
        silence = some.detach().amin(dim=(1, 2, 3), keepdim=True).expand_as(some)
        found = DeepLift(unrolled(model, some.detach())).attribute(some, silence, target=target)
        return found.clamp_min(0)

    with warnings.catch_warnings():  # of the hooks that it sets, and takes off again
        warnings.simplefilter("ignore", UserWarning)
        return _by_batches(attribute, features, targets)
