"""What the network costs: parameters, multiply-adds, memory, and how far a unit sees."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from esc_lib.machine.hardware import autocast, best_device
from esc_lib.machine.timing import latency, step_cost
from esc_lib.models.se_cnn import BLOCKS, SECNN, ConvBlock, component_of


@dataclass(frozen=True)
class Cost:
    """Totals for one clip, as torchinfo counts them (MB are 10**6 bytes, float32)."""

    parameters: int
    multiply_adds: int
    input_mb: float
    forward_mb: float
    parameter_mb: float
    components: pd.DataFrame  # a row per component: parameters, multiply_adds, output_mb

    @property
    def total_mb(self) -> float:
        """Input, forward / backward and parameters together, in MB."""
        return self.input_mb + self.forward_mb + self.parameter_mb


def cost(model: SECNN, n_mels: int, n_frames: int) -> Cost:
    """Count parameters, multiply-adds and memory for an input (1, 1, n_mels, n_frames)."""
    device = next(model.parameters()).device
    info = summary(model, input_size=(1, 1, n_mels, n_frames), verbose=0, device=device)
    rows: dict[str, dict[str, float]] = {}
    for layer in info.summary_list:
        if not layer.is_leaf_layer:
            continue
        name = layer.get_layer_name(False, False) if layer.depth == 0 else _path(layer)
        row = rows.setdefault(
            component_of(name), {"parameters": 0, "multiply_adds": 0, "output_mb": 0.0}
        )
        row["multiply_adds"] += layer.macs
        if layer.num_params > 0:  # torchinfo counts outputs of layers with weights, twice
            row["output_mb"] += 2 * layer.output_bytes / 1e6
    for name, parameter in model.named_parameters():
        rows[component_of(name)]["parameters"] += parameter.numel()
    components = pd.DataFrame.from_dict(rows, orient="index")
    components = components.loc[components.parameters > 0]
    return Cost(
        info.total_params,
        info.total_mult_adds,
        info.total_input / 1e6,
        info.total_output_bytes / 1e6,
        info.total_param_bytes / 1e6,
        components.astype({"parameters": int, "multiply_adds": int}),
    )


def multiply_adds(model: nn.Module, n_mels: int, n_frames: int) -> int:
    """Count the multiply-adds of any network for one clip, attention included.

    torchinfo, which the thesis used, counts a linear layer once per clip instead of once per
    token and does not see attention; for convolutions both agree.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.eval()(torch.zeros(1, 1, n_mels, n_frames, device=device))
    return counter.get_total_flops() // 2


def side_by_side(
    networks: Mapping[str, nn.Module], n_mels: int, n_frames: int, batch: int = 8
) -> pd.DataFrame:
    """Lay out what networks cost, timed one after the other on this machine's best device.

    Parameters
    ----------
    networks : of log-mel spectrograms, by name; they stay as they are.
    n_mels, n_frames : size of a whole clip's spectrogram.
    batch : clips in a training step.

    Returns
    -------
    DataFrame, a row per network: parameters, multiply_adds (of one clip), train_ms (median time of
        a training step, per clip) and predict_ms (of one clip alone).
    """
    device = best_device()
    clips = torch.randn(batch, 1, n_mels, n_frames, device=device)
    clips = clips.contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(batch, dtype=torch.long, device=device)
    rows = {}
    for name, network in networks.items():
        network = copy.deepcopy(network).to(device, memory_format=torch.channels_last)
        rows[name] = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "multiply_adds": multiply_adds(network, n_mels, n_frames),
            "train_ms": step_cost(network.train(), clips, targets, repeats=3)["step_ms"] / batch,
            "predict_ms": _prediction_ms(network.eval(), clips[:1]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _prediction_ms(network: nn.Module, clip: torch.Tensor) -> float:
    with torch.inference_mode(), autocast(clip.device):
        return latency(lambda: network(clip).cpu(), repeats=10).median_ms


def working_memory_mb(model: nn.Module, n_mels: int, n_frames: int) -> float:
    """Return the memory that one clip needs beside the weights, computed layer by layer, in MB.

    What a layer reads and what it writes have to be there at the same time, in float32; the
    largest such pair counts. Training keeps the outputs of all layers: :attr:`Cost.forward_mb`.
    """
    sizes = []

    def note(_layer, read, written):
        sizes.append(4e-6 * (read[0].numel() + written.numel()))

    layers = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    device, was_training = next(model.parameters()).device, model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 1, n_mels, n_frames, device=device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _path(layer) -> str:
    """Return the dotted path of a torchinfo layer below the model."""
    names = []
    while layer.parent_info is not None:
        names.append(layer.var_name)
        layer = layer.parent_info
    return ".".join(reversed(names))


def receptive_field(model: SECNN, *, after_pool: bool) -> int:
    """Derive the receptive field of block 5 in input bins, the same along both axes.

    Each layer widens the field by (kernel - 1) times the product of all strides before it.

    Parameters
    ----------
    after_pool : behind block 5's pooling, or before it.
    """
    field, stride = 1, 1
    for name in BLOCKS:
        block = getattr(model, name)
        layers = [block.conv1, block.conv2, block.pool]
        if name == BLOCKS[-1] and not after_pool:
            layers.pop()
        for layer in layers:
            kernel = layer.kernel_size if isinstance(layer, nn.MaxPool2d) else layer.kernel_size[0]
            field += (kernel - 1) * stride
            stride *= layer.stride if isinstance(layer, nn.MaxPool2d) else layer.stride[0]
    return field


def receptive_field_by_gradient(*, after_pool: bool) -> int:
    """Measure the same by the extent of one output unit's gradient on the input.

    The blocks are rebuilt narrow, with positive weights and average instead of maximum pooling,
    so that no path is cut by a ReLU or by a maximum taken elsewhere. The SE gates are left out:
    through their global pooling every unit behind a gate depends on the whole clip.
    """
    blocks = [ConvBlock(1, 1) for _ in BLOCKS]
    for block in blocks:
        block.pool = nn.AvgPool2d(2)
    if not after_pool:
        blocks[-1].pool = nn.Identity()
    stack = nn.Sequential(*blocks).double().eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.fill_(0.5)
    # so large that the field of a unit in the middle touches no edge
    image = torch.ones(1, 1, 320, 320, dtype=torch.float64, requires_grad=True)
    maps = stack(image)
    middle = maps.shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[0, 0, middle, middle], image)
    touched = torch.nonzero(gradient[0, 0].abs().sum(dim=0)).squeeze(1)
    return int(touched.max() - touched.min() + 1)
