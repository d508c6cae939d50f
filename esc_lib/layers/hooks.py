"""Hidden layers read by hooks: activation maps, SE gates, and their reduction to H."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.data.clips import Data
from esc_lib.machine.hardware import autocast
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN
from esc_lib.sound.log_mel import LogMel

BEFORE = dict(zip(GATES, BLOCKS[1:]))  # gate to the block whose maps it scales


@contextmanager
def record(
    model: nn.Module, layers: Sequence[str], keep_graph: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of named layers during the forward passes inside the block.

    Parameters
    ----------
    model : nn.Module
    layers : names as in ``model.named_modules()``, for example "conv_block3" or "se2".
    keep_graph : bool, whether gradients with respect to the outputs are wanted.

    Yields
    ------
    dict, layer name to its latest output, shape (batch, channels, mel, frames), detached from the
        graph unless it is to be kept.

    Raises
    ------
    ValueError
        If the model has no layer of that name.
    """
    modules = dict(model.named_modules())
    for layer in layers:
        if layer not in modules:
            raise ValueError(
                f"record: layer={layer!r} is unknown; choose one of "
                f"{', '.join(name for name, _ in model.named_children())}."
            )
    maps: dict[str, torch.Tensor] = {}

    def keep(layer: str):
        def hook(_module, _inputs, output):
            maps[layer] = output if keep_graph else output.detach()

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


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
    """Reduce activation maps over frequency, (batch, channels, mel, frames) to (batch, channels,
    frames).

    Parameters
    ----------
    maps : tensor, non-negative after ReLU, pooling and gate.
    how : "mean" (default, the study's choice) or "max".
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
    ValueError
        If `n_frames` does not come out of repeated halving.
    """
    step = frames_per_step(mel.shape[-1], n_frames) if n_frames <= mel.shape[-1] else 1
    if mel.shape[-1] // step != n_frames:
        raise ValueError(
            f"pool_frames: n_frames={n_frames} does not follow from {mel.shape[-1]} frames by "
            "halving; give a layer of the network."
        )
    return nn.functional.avg_pool1d(mel, step)


@torch.no_grad()
def se_gates(model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray) -> dict:
    """Return every SE gate's values: name to array, shape (clips, channels), in (0, 1)."""
    values: dict[str, list] = {gate: [] for gate in GATES}
    for _, _, maps in stream(model, front_end, data, rows, list(BEFORE.values())):
        for gate, block in BEFORE.items():
            values[gate].append(getattr(model, gate).gate(maps[block].float()).cpu())
    return {gate: torch.cat(parts).numpy() for gate, parts in values.items()}


@contextmanager
def forced_gates(
    model: SECNN, values: Mapping[str, float | np.ndarray | torch.Tensor]
) -> Iterator[None]:
    """Give gates other values during the forward passes inside the block.

    Parameters
    ----------
    model : SECNN
    values : gate name to the factor of its channels: one number for all of them, or an array of
        shape (channels,) or (batch, channels).

    Raises
    ------
    ValueError
        If the model has no gate of that name, or the values do not fit its channels.
    """
    for gate, factors in values.items():
        if gate not in GATES:
            raise ValueError(
                f"forced_gates: gate={gate!r} is unknown; choose one of {', '.join(GATES)}."
            )
        shape, channels = np.shape(factors), getattr(model, gate).fc2.out_features
        if shape and shape[-1] != channels:
            raise ValueError(
                f"forced_gates: values of {gate} have shape {shape}; "
                f"give one number, or one for each of its {channels} channels."
            )

    def force(factors):
        def hook(_module, inputs, _output):
            maps = inputs[0]
            return maps * torch.as_tensor(factors).to(maps)[..., None, None]

        return hook

    handles = [
        getattr(model, gate).register_forward_hook(force(factors))
        for gate, factors in values.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def resume(model: SECNN, layer: str, maps: torch.Tensor) -> torch.Tensor:
    """Return the logits, (batch, classes), from the input of a layer: what lies before is not run.

    Parameters
    ----------
    model : SECNN
    layer : name of a block or gate.
    maps : tensor, shape (batch, channels, mel, frames), the layer's input.
    """
    names = [name for name, _ in model.named_children()]
    for name in names[names.index(layer) :]:
        maps = getattr(model, name)(maps)
        if name == "pool":
            maps = maps.flatten(1)
    return maps


@torch.no_grad()
def forced_logits(
    model: SECNN,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    variants: Mapping[str, Mapping[str, float | np.ndarray | torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """Return the logits of whole clips under each set of forced gates.

    All variants of a batch share the layers before the first forced gate.

    Parameters
    ----------
    variants : name to what :func:`forced_gates` takes; an empty one leaves the network as it is.

    Returns
    -------
    dict of name to float32 tensor on the CPU, shape (clips, classes), rows in the order given.
    """
    logits: dict[str, list] = {name: [] for name in variants}
    for _, _, maps in stream(model, front_end, data, rows, list(BEFORE.values())):
        for name, values in variants.items():
            first = next((gate for gate in GATES if gate in values), GATES[-1])
            block = maps[BEFORE[first]]
            with autocast(block.device), forced_gates(model, values):
                logits[name].append(resume(model, first, block).float().cpu())
    return {name: torch.cat(parts) for name, parts in logits.items()}
