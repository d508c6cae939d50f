"""One decision of the full network, made and explained: ours, its rivals, captum.

Everyone starts from one waveform in memory and ends with a mask or a heat map; nobody finds what
another has computed. The measure is one forward and one backward pass of the same network for the
same clip, in the precision that explanations use, down to the spectrogram: the least a gradient
takes. Weights and dictionaries are fresh; what anything costs does not depend on their values.
"""

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam

from benchmarks import _timing
from esc_lib.config import Network, get_profile
from esc_lib.explain.components import Choice, Components
from esc_lib.explain.conditions import Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.hear import OnWaves
from esc_lib.explain.heatmaps import SAMPLES
from esc_lib.explain.masks import cut_out
from esc_lib.explain.methods import LEARNED, METHODS, OURS, names_of
from esc_lib.explain.sound_explainer import SoundExplainer
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.sound.grid import Grid
from esc_lib.sound.log_mel import LogMel

N_CLASSES = 50
PASS = "forward and backward pass"


def decision(channels: tuple[int, ...], device: torch.device) -> Callable[[], Explainer]:
    """Return a function that returns one clip's decision, of which nothing is computed yet."""
    settings, generator = get_profile("esc50").front_end, torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = SECNN(N_CLASSES, Network(channels=channels)).eval()
    model = model.to(device, memory_format=torch.channels_last)
    waveforms = torch.from_numpy(_timing.noise_bursts(1, settings.sr)).to(device) / 32768
    n_valid = torch.full((1,), waveforms.shape[1], device=device)
    inputs = Inputs("clean", np.arange(1), waveforms, n_valid)
    fitted = {}
    for block, atoms in zip(BLOCKS, channels, strict=True):
        w = torch.rand(settings.n_mels, atoms, generator=generator).pow(4)
        one = Components(block, w, 0.1 + torch.rand(atoms, generator=generator))
        fitted[block, Choice.dictionary] = one.to(device)
    front_end = LogMel(settings).to(device)
    return lambda: Explainer(model, front_end, fitted, inputs)


def forward_and_backward(new: Callable[[], Explainer]) -> Callable[[], torch.Tensor]:
    """Return one pass of the network, of ready features, and its gradient with respect to them."""
    model, features = new().model, new().features

    def run() -> torch.Tensor:
        given = features.clone().requires_grad_()
        with autocast(features.device):
            logits = model(given)
        return torch.autograd.grad(logits.float().max(), given)[0]

    return run


def ours_and_its_sound(new: Callable[[], Explainer]) -> torch.Tensor:
    """Return the sound that our mask keeps, shape (1, samples)."""
    explainer = new()
    return cut_out(explainer.front_end, explainer.inputs.waveforms, explainer.components())


def captums_gradcam(new: Callable[[], Explainer]) -> torch.Tensor:
    """Return Grad-CAM of the last block as captum's own user calls it, (1, 1, mel, frames)."""
    explainer = new()
    with torch.no_grad():
        target = explainer.model(explainer.features).argmax(dim=1)
    method = LayerGradCam(explainer.model, explainer.model.conv_block5)
    coarse = method.attribute(explainer.features, target, relu_attributions=True)
    return LayerGradCam.interpolate(coarse, explainer.features.shape[2:], "bilinear")


def captums_integrated_gradients(new: Callable[[], Explainer]) -> torch.Tensor:
    """Return integrated gradients as captum's own user calls them, with our number of steps."""
    explainer = new()
    with torch.no_grad():
        target = explainer.model(explainer.features).argmax(dim=1)
    method = IntegratedGradients(explainer.model)
    return method.attribute(explainer.features, target=target, n_steps=SAMPLES)


def for_any_model(
    channels: tuple[int, ...], device: torch.device
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what explains a model that it knows nothing of, from waves to a mask, by its name."""
    settings = get_profile("esc50").front_end
    torch.manual_seed(0)
    network = SECNN(N_CLASSES, Network(channels=channels))
    model = OnWaves(settings, network).to(device, memory_format=torch.channels_last).eval()
    waves = torch.from_numpy(_timing.noise_bursts(1, settings.sr)).to(device) / 32768
    explain = partial(SoundExplainer(model, settings.sr, grid=Grid.of(settings)).attribute, waves)
    found = {
        name: lambda name=name: explain(method=name).mask
        for name in ("gradient equaliser", "integrated gradients")
    }
    found["occlusion, 64 cells"] = lambda: explain(method="occlusion", cells=64).mask
    return {f"SoundExplainer, {name}": run for name, run in found.items()}


def contenders(new: Callable[[], Explainer]) -> dict[str, Callable[[], torch.Tensor]]:
    """Return each contender by its name, the one that all are compared with first."""
    found = {PASS: forward_and_backward(new), f"{OURS} (ours)": lambda: METHODS[OURS].masks(new())}
    found[f"{OURS} (ours), and its sound"] = lambda: ours_and_its_sound(new)
    for name in names_of("rival"):
        if name in LEARNED:  # what takes their time is their training
            continue
        found[f"{name}, as compared"] = lambda name=name: METHODS[name].masks(new())
    found["captum's Grad-CAM"] = lambda: captums_gradcam(new)
    found["captum's integrated gradients"] = lambda: captums_integrated_gradients(new)
    return found


def main() -> None:
    """Run from the command line."""
    options = _timing.parser(__doc__.partition("\n")[0], repeats=5)
    options.add_argument("--channels", type=_timing.positive, nargs=5, default=Network().channels)
    arguments = options.parse_args()

    found = _timing.environment()
    _timing.header("One decision explained, against one pass of the network", found)
    given = tuple(arguments.channels), best_device()
    runs = contenders(decision(*given)) | for_any_model(*given)
    for name, run in runs.items():  # the warm-up too
        if not torch.isfinite(run()).all():
            sys.exit(f"explanation: {name} is not finite; its time means nothing.")
    seconds = _timing.interleave(runs, arguments.repeats)
    rows = [
        {
            "contender": name,
            "passes": float(np.median(values) / np.median(seconds[PASS])),
            **_timing.spread(values),
            "ms": 1000 * float(np.median(values)),
        }
        for name, values in seconds.items()
    ]
    _timing.report(arguments, found, rows, passes=rows[1]["passes"])
    print(f"ours takes {rows[1]['passes']:.3g} times one {PASS} of the network")


if __name__ == "__main__":
    main()
