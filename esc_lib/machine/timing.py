"""How long a call takes, and what a training step costs in time and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from esc_lib.machine.hardware import autocast

MB = 1e6


@dataclass(frozen=True)
class Latency:
    """Wall time of one call in ms: median, first and third quartile, lower is better."""

    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float


def latency(run: Callable[[], object], repeats: int = 30, warm_up: int = 3) -> Latency:
    """Time `repeats` calls of `run` after `warm_up` calls that do not count.

    Parameters
    ----------
    run : callable without arguments; on an accelerator it has to wait for the result.

    Raises
    ------
    ValueError
        If `repeats` is below 1 or `warm_up` below 0.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(
            f"latency: repeats={repeats}, warm_up={warm_up}; expected at least 1 and 0."
        )
    for _ in range(warm_up):
        run()
    times_ms = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - start))
    first, median, third = np.percentile(times_ms, [25, 50, 75])
    return Latency(float(median), float(first), float(third))


def real_time_factor(seconds_per_call: float, seconds_of_audio: float) -> float:
    """Return computing time over the audio time that a call moves on by; below 1 keeps up.

    In a stream `seconds_of_audio` is the hop, not the window.

    Raises
    ------
    ValueError
        If `seconds_per_call` is negative or `seconds_of_audio` not above 0.

    Examples
    --------
    >>> real_time_factor(0.25, 1.0)
    0.25
    """
    if seconds_per_call < 0 or not seconds_of_audio > 0:
        raise ValueError(
            f"real_time_factor: seconds_per_call={seconds_per_call}, seconds_of_audio="
            f"{seconds_of_audio}; expected at least 0 and above 0."
        )
    return seconds_per_call / seconds_of_audio


def step_cost(
    network: nn.Module,
    features: torch.Tensor,
    targets: torch.Tensor,
    repeats: int = 5,
    *,
    mixed_precision: bool = True,
) -> dict[str, float]:
    """Take some training steps with Adam and say what one costs.

    Parameters
    ----------
    network : nn.Module in training mode; its weights change.
    features : tensor, shape (batch, 1, mel, frames), on the device to be measured.
    targets : int tensor, shape (batch,), on that device.
    repeats : int, steps that are timed, after one that is not.
    mixed_precision : bool, compute as the training loop does on this machine; else in float32.

    Returns
    -------
    dict of ``trainable`` (parameters), ``step_ms`` (median), ``parameter_mb``, ``gradient_mb``,
    ``optimizer_mb`` (Adam's two running means), ``activation_mb`` (what the forward pass keeps for
    the backward pass, counted by autograd) and ``peak_mb`` (what CUDA allocated at most; NaN on
    other devices). A MB is a million bytes.
    """
    device = features.device
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-4)
    saved = _SavedBytes(network)
    times_ms = []
    precision = autocast(device) if mixed_precision else contextlib.nullcontext()
    for repeat in range(1 + repeats):
        started = time.perf_counter()
        with precision, saved if repeat == 0 else contextlib.nullcontext():
            loss = nn.functional.cross_entropy(network(features).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_ms.append(1e3 * (time.perf_counter() - started))
        if repeat == 0:
            saved.seen.clear()  # else these blocks would stand beside those of the next step
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
    parameters = list(network.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    states = [
        value for state in optimizer.state.values() for value in state.values()
        if torch.is_tensor(value) and value.dim()
    ]  # fmt: skip
    cost = {
        "trainable": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "step_ms": float(np.median(times_ms[1:])),
        "parameter_mb": _bytes(parameters) / MB,
        "gradient_mb": _bytes(gradients) / MB,
        "optimizer_mb": _bytes(states) / MB,
        "activation_mb": saved.total / MB,
        "peak_mb": float("nan"),
    }
    if device.type == "cuda":
        cost["peak_mb"] = torch.cuda.max_memory_allocated(device) / MB
    network.zero_grad()
    return cost


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Count the bytes that autograd keeps, each storage once, parameters not at all."""

    def __init__(self, network: nn.Module):
        # kept alive until counted: a freed block's address would be taken for a known one
        self.seen = {p.untyped_storage().data_ptr(): p for p in network.parameters()}
        self.total = 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen[storage.data_ptr()] = tensor.detach()
            self.total += storage.nbytes()
        return tensor
