"""How long a call takes, and what a training step costs."""

import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.machine import hardware, timing


def test_latency_is_the_median_of_the_calls_that_count(monkeypatch):
    calls = []
    durations_s = [9.0] * timing.WARM_UP + [0.004, 0.001, 0.002, 0.003, 0.005]
    clock = [0.0]

    def run():
        clock[0] += durations_s[len(calls)]
        calls.append(None)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    result = timing.latency(run, repeats=5)
    assert len(calls) == len(durations_s)
    assert result.median_ms == pytest.approx(3)
    assert (result.first_quartile_ms, result.third_quartile_ms) == pytest.approx((2, 4))


def test_latency_refuses_no_calls():
    with pytest.raises(ValueError, match="repeats=0, expected at least 1"):
        timing.latency(lambda: None, repeats=0)


def test_bytes_of_a_step_are_those_counted_by_hand(monkeypatch):
    monkeypatch.setattr(hardware, "best_precision", lambda: "32-true")
    network = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 4))
    network[0].weight.requires_grad_(False)
    features, targets = torch.randn(8, 5), torch.zeros(8, dtype=torch.long)
    cost = timing.step_cost(network, features, targets, repeats=1)
    assert cost["trainable"] == 3 + 3 * 4 + 4
    assert cost["parameter_mb"] == pytest.approx(4 * (15 + 19) / 1e6)
    assert cost["gradient_mb"] == pytest.approx(4 * 19 / 1e6)
    assert cost["optimizer_mb"] == pytest.approx(2 * 4 * 19 / 1e6)  # Adam: two running means
    # ReLU's result (8 x 3), which the second layer shares; cross-entropy: log-probabilities
    # (8 x 4), targets (8 of 8 bytes) and their total weight (one float)
    assert cost["activation_mb"] == pytest.approx((4 * 24 + 4 * 32 + 8 * 8 + 4) / 1e6)
    assert np.isnan(cost["peak_mb"])
