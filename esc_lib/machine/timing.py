"""How long a call takes, and what a training step costs in time and memory."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from esc_lib.machine.hardware import autocast

WARM_UP = 3  # calls that do not count
MB = 1e6


@dataclass(frozen=True)
class Latency:
    """Wall time of one call in ms: median, first and third quartile, lower is better."""

    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float


def latency(run: Callable[[], object], repeats: int) -> Latency:
    """Time calls of `run` after a few that do not count.

    Parameters
    ----------
    run : on an accelerator it has to wait for the result.

    Raises
    ------
    ValueError
        If `repeats` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"latency: repeats={repeats}, expected at least 1.")
    times_ms = []
    for _ in range(WARM_UP + repeats):
        start = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - start))
    first, median, third = np.percentile(times_ms[WARM_UP:], [25, 50, 75])
    return Latency(float(median), float(first), float(third))


def step_cost(
    network: nn.Module, features: torch.Tensor, targets: torch.Tensor, repeats: int = 5
) -> dict[str, float]:
    """Take some training steps with Adam, in the precision of training, and say what one costs.

    Parameters
    ----------
    network : nn.Module in training mode; its weights change.
    features : tensor, shape (batch, 1, mel, frames), on the device to be measured.
    targets : int tensor, shape (batch,), on that device.
    repeats : int, steps that are timed, after one that is not.

    Returns
    -------
    dict of ``trainable`` (parameters), ``step_ms`` (median), ``parameter_mb``, ``gradient_mb``,
    ``optimizer_mb`` (Adam's two running means), ``activation_mb`` (what the forward pass keeps for
    the backward pass, counted by autograd) and ``peak_mb`` (what CUDA allocated at most; NaN on
    other devices). A MB is a million bytes.
    """
    device, parameters = features.device, list(network.parameters())
    learning = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-4)
    saved = _SavedBytes(network)
    times_ms = []
    for repeat in range(1 + repeats):
        started = time.perf_counter()
        with autocast(device), saved if repeat == 0 else contextlib.nullcontext():
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
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else float("nan")
    states = [
        value for state in optimizer.state.values() for value in state.values()
        if torch.is_tensor(value) and value.dim()
    ]  # fmt: skip
    cost = {
        "trainable": sum(p.numel() for p in learning),
        "step_ms": float(np.median(times_ms[1:])),
        "parameter_mb": sum(p.nbytes for p in parameters) / MB,
        "gradient_mb": sum(p.grad.nbytes for p in parameters if p.grad is not None) / MB,
        "optimizer_mb": sum(state.nbytes for state in states) / MB,
        "activation_mb": saved.total / MB,
        "peak_mb": peak / MB,
    }
    network.zero_grad()
    return cost


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
