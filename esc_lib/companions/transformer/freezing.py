"""What a frozen encoder is good for: a probe of what it says, and cheaper training steps."""

import copy

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from esc_lib.companions.transformer.network import FROZEN, FULL, SpectrogramAST, freeze
from esc_lib.machine.timing import step_cost


def n_trainable(network: nn.Module) -> int:
    """Count the parameters that learn."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@torch.no_grad()
def embeddings(network: SpectrogramAST, features: torch.Tensor, batch: int = 32) -> np.ndarray:
    """Return what the classifier would read of every clip, without dropout, (clips, width)."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    found = [network.pooled(part.to(device)).float().cpu() for part in features.split(batch)]
    network.train(was_training)
    return torch.cat(found).numpy()


def linear_probe(embedded: np.ndarray, labels: np.ndarray, strength: float = 1.0) -> Pipeline:
    """Fit a logistic regression to standardised embeddings: the cheapest way to use an encoder.

    `strength` is scikit-learn's `C`: how little the weights are penalised.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return probe.fit(embedded, labels)


def costs(
    network: SpectrogramAST,
    features: torch.Tensor,
    targets: torch.Tensor,
    levels: tuple[str, ...] = (FULL, "last2", FROZEN),
    repeats: int = 5,
) -> pd.DataFrame:
    """Measure a training step with Adam at several levels of freezing, on copies of a network.

    All is on the device to be measured; `repeats` steps are timed, after one that is not. The index
    is level, as for ``network.freeze``; columns are those of ``timing.step_cost``, and two ratios
    to the first level: ``time_ratio`` and ``memory_ratio``, of what training needs beyond the
    parameters.
    """
    rows = [
        step_cost(freeze(copy.deepcopy(network), level).train(), features, targets, repeats)
        for level in levels
    ]
    table = pd.DataFrame(rows, index=pd.Index(levels, name="level"))
    beyond = table[["gradient_mb", "optimizer_mb", "activation_mb"]].sum(axis=1)
    table["time_ratio"] = table.step_ms / table.step_ms.iloc[0]
    table["memory_ratio"] = beyond / beyond.iloc[0]
    return table
