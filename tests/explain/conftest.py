"""What the tests of explanations share: full precision, and an explainer of random networks."""

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, small_network

from esc_lib.explain.components import Choice, Components
from esc_lib.explain.conditions import Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.machine import hardware
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel


@pytest.fixture
def exact(monkeypatch):
    """Switch fast precision off, where last digits are compared."""
    monkeypatch.setattr(hardware, "best_precision", lambda: "32-true")


@pytest.fixture(scope="module")
def explainer():
    model, g = small_network(), torch.Generator().manual_seed(6)
    n_samples = FRONT_END.n_samples
    wanted, unwanted = 0.2 * torch.randn(2, 4, n_samples, generator=g)
    wanted = 0.2 * wanted.cumsum(dim=1).sin()  # low frequencies
    n_valid = torch.full((4,), n_samples)
    classes = torch.tensor([[0, 1], [0, 2], [2, 1], [1, 0]])
    sounds = wanted + unwanted, n_valid, wanted, unwanted
    inputs = Inputs("other clip", np.arange(4), *sounds, classes)
    channels = dict(zip(BLOCKS, (4, 4, 6, 8, 8), strict=True))
    fitted = {
        (block, name): Components(
            block,
            torch.rand(FRONT_END.n_mels, n, generator=g).pow(4),
            torch.rand(n, generator=g) + 0.1,
        )
        for block, n in channels.items()
        for name in (Choice.dictionary, "optimum")[: 1 + (block == "conv_block4")]
    }
    return Explainer(model, LogMel(FRONT_END), fitted, inputs, torch.tensor([0, 0, 2, 1]))
