"""Hidden layers read by hooks: activation maps, V on their time grid, and their reduction to H."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.data.clips import Data
from esc_lib.machine.hardware import autocast
from esc_lib.sound.log_mel import LogMel


@contextmanager
def record(
    model: nn.Module, layers: Sequence[str], keep_graph: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of named layers during the forward passes inside the block.

    Layers are named as in ``model.named_modules()``, for example "conv_block3" or "se2". The dict
    holds the latest output of each, shape (batch, channels, mel, frames), detached from the graph
    unless it is to be kept, for gradients with respect to the outputs.

    Raises
    ------
    ValueError : the model has no layer of that name.
    """
    modules = dict(model.named_modules())
    for layer in layers:
        if layer not in modules:
            raise ValueError(
                f"record: layer={layer!r} is unknown; choose one of "
                f"{', '.join(name for name, _ in model.named_children())}."
            )
    maps: dict[str, torch.Tensor] = {}

    def keep(layer, _module, _inputs, output):
        maps[layer] = output if keep_graph else output.detach()

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(modules[layer].register_forward_hook(partial(keep, layer)))
        yield maps


@torch.no_grad()
def stream(
    model: nn.Module, front_end: LogMel, data: Data, rows: np.ndarray, layers: Sequence[str]
) -> Iterator[tuple[np.ndarray, torch.Tensor, dict[str, torch.Tensor]]]:
    """Run clips through the model, in evaluation mode and fast precision, batch by batch.

    Yields
    ------
    rows : the batch's row numbers.
    mel : mel magnitude of the clips, shape (batch, mel, frames), each clip's peak at 1.
    maps : layer name to activation maps, shape (batch, channels, mel, frames), as the layer gave
        them, in half precision too.
    """
    device = next(model.parameters()).device
    model.eval()
    with record(model, layers) as maps:
        for batch in tqdm(np.array_split(rows, -(-len(rows) // 16)), desc="hidden layers"):
            waveforms, n_valid = data.batch(batch, device)
            with autocast(device):
                model(front_end.features(waveforms, n_valid))
            yield batch, mel_magnitude(front_end, waveforms), dict(maps)


def mel_magnitude(front_end: LogMel, waveforms: torch.Tensor) -> torch.Tensor:
    """Return V: the root of the mel power, (batch, mel, frames), each clip's peak at 1."""
    magnitude = front_end.mel_power(waveforms).sqrt()
    return magnitude / magnitude.amax(dim=(1, 2), keepdim=True).clamp_min(1e-10)


def reduce_frequency(maps: torch.Tensor, how: str = "mean") -> torch.Tensor:
    """Reduce maps over frequency, (batch, channels, mel, frames) to (batch, channels, frames).

    The study's choice is "mean"; the other is "max".
    """
    if how == "mean":
        return maps.mean(dim=2)
    if how == "max":
        return maps.amax(dim=2)
    raise ValueError(f"reduce_frequency: how={how!r}, expected 'mean' or 'max'.")


def frames_per_step(n_frames: int, n_coarse: int) -> int:
    """Return how many frames one frame of a layer stands for: 2**k after k poolings.

    A layer after k poolings has floor(frames / 2**k) frames; the remainder at the end is dropped,
    so the frames divided by the layer's are not always it: 188 frames make 5 of 32.
    """
    return 1 << (n_frames // n_coarse).bit_length() - 1


def pool_frames(mel: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Average (batch, mel, frames) to a layer's time grid, as its 2x2 poolings cut it.

    The remainder at the end is dropped here as it is there, see :func:`frames_per_step`.

    Raises
    ------
    ValueError : `n_frames` does not come out of repeated halving.
    """
    step = frames_per_step(mel.shape[-1], n_frames) if n_frames <= mel.shape[-1] else 1
    if mel.shape[-1] // step != n_frames:
        raise ValueError(
            f"pool_frames: n_frames={n_frames} does not follow from {mel.shape[-1]} frames by "
            "halving; give a layer of the network."
        )
    return nn.functional.avg_pool1d(mel, step)
