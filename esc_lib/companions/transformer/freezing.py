"""Which parts of a pre-trained spectrogram transformer learn, and what a step then costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from esc_lib.companions.transformer.network import SpectrogramAST, full_ast, small_ast
from esc_lib.config import Profile
from esc_lib.machine.timing import step_cost

FULL, FROZEN = "full", "frozen"
PUBLISHED_FRAMES = 1024  # of the published weights' table of positions


def freeze(network: SpectrogramAST, level: str) -> SpectrogramAST:
    """Let a part of the network learn, in place, and freeze the rest.

    Parameters
    ----------
    network : SpectrogramAST
    level : str
        "full": everything learns. "frozen": the encoder is frozen, only the classifier (a
        normalisation and a dense layer) learns. "last2", or another number: the last two layers,
        the normalisation behind them and the classifier learn.

    Returns
    -------
    The network itself.

    Raises
    ------
    ValueError
        If the level is unknown, or asks for more layers than there are.
    """
    n_layers = len(network.encoder.layers)
    last = level.removeprefix("last")
    if level not in (FULL, FROZEN) and not (
        level.startswith("last") and last.isdigit() and 1 <= int(last) <= n_layers
    ):
        raise ValueError(
            f"freeze: level={level!r} is unknown; choose {FULL}, {FROZEN}, or last1 to "
            f"last{n_layers}."
        )
    network.requires_grad_(level == FULL)
    network.classifier.requires_grad_(True)
    if level.startswith("last"):
        for module in (*network.encoder.layers[-int(last) :], network.encoder.layernorm):
            module.requires_grad_(True)
    return network.train(network.training)


def n_trainable(network: nn.Module) -> int:
    """Count the parameters that learn."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def build_ast(profile: Profile, n_classes: int) -> SpectrogramAST:
    """Return the transformer of architecture "ast_8x8" or "ast_full", or "<one of them>-<level>".

    The small one's table of positions has the size of the excerpts of most epochs; with a recipe
    whose stages all crop alike, nothing is cut from it or interpolated in training. "ast_full" has
    the shapes of the published weights.
    """
    name, _, level = profile.architecture.partition("-")
    if name == "ast_full":
        return freeze(full_ast(n_classes, PUBLISHED_FRAMES), level or FULL)
    main = max(profile.training.recipe.stages, key=lambda stage: stage.share)
    n_frames = main.crop_frames or profile.front_end.n_frames
    if name != "ast_8x8":
        raise ValueError(
            f"build_ast: architecture={profile.architecture!r} is unknown; choose ast_8x8, "
            "ast_full, ast_8x8-frozen, ast_8x8-last2 and so on."
        )
    return freeze(small_ast(n_classes, profile.front_end.n_mels, n_frames), level or FULL)


# --------------------------------------------------------------------------------- linear probe


@torch.no_grad()
def embeddings(network: SpectrogramAST, features: torch.Tensor, batch: int = 32) -> np.ndarray:
    """Return what the classifier would read of every clip, without dropout.

    Parameters
    ----------
    network : SpectrogramAST
    features : tensor, shape (clips, 1, mel, frames), on any device.
    batch : int, clips at a time.

    Returns
    -------
    embeddings : float32 array, shape (clips, width).
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    found = [network.pooled(part.to(device)).float().cpu() for part in features.split(batch)]
    network.train(was_training)
    return torch.cat(found).numpy()


def linear_probe(embedded: np.ndarray, labels: np.ndarray, strength: float = 1.0) -> Pipeline:
    """Fit a logistic regression to standardised embeddings: the cheapest way to use an encoder.

    Parameters
    ----------
    embedded : array, shape (clips, width), of training clips.
    labels : int array, shape (clips,).
    strength : float, scikit-learn's `C`: how little the weights are penalised.

    Returns
    -------
    Pipeline with ``predict``, ``predict_proba`` and ``score``.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return probe.fit(embedded, labels)


# ----------------------------------------------------------------------------- what a step costs


def costs(
    network: SpectrogramAST,
    features: torch.Tensor,
    targets: torch.Tensor,
    levels: tuple[str, ...] = (FULL, "last2", FROZEN),
    repeats: int = 5,
) -> pd.DataFrame:
    """Measure a training step with Adam at several levels of freezing.

    Parameters
    ----------
    network : SpectrogramAST on the device to be measured; its weights, what is frozen and its mode
        are restored.
    features : tensor, shape (batch, 1, mel, frames), on that device.
    targets : int tensor, shape (batch,), on that device.
    levels : tuple of str, as for :func:`freeze`; ratios are to the first.
    repeats : int, steps that are timed, after one that is not.

    Returns
    -------
    DataFrame, index level, with the columns of :func:`step_cost`, ``time_ratio`` and
    ``memory_ratio``, the latter of what training needs beyond the parameters.
    """
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    learned = [parameter.requires_grad for parameter in network.parameters()]
    mode = network.training
    rows = []
    for level in levels:
        freeze(network, level).train()
        rows.append({"level": level} | step_cost(network, features, targets, repeats))
        network.load_state_dict(kept)
    for parameter, learns in zip(network.parameters(), learned, strict=True):
        parameter.requires_grad_(learns)
    network.train(mode)
    table = pd.DataFrame(rows).set_index("level")
    beyond = table[["gradient_mb", "optimizer_mb", "activation_mb"]].sum(axis=1)
    table["time_ratio"] = table.step_ms / table.step_ms.iloc[0]
    table["memory_ratio"] = beyond / beyond.iloc[0]
    return table
