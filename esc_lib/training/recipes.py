"""A recipe at work: its stages, optimiser, schedule, running mean, and the epoch it keeps."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from esc_lib.config import Profile, Recipe, Stage


def stage_of(epoch: int, profile: Profile) -> Stage:
    """Return the stage that an epoch, counted from 1, belongs to."""
    stages = profile.training.recipe.stages
    ends = np.cumsum([stage.share for stage in stages]) * profile.training.epochs
    return stages[min(int((ends + 1e-9 < epoch).sum()), len(stages) - 1)]


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay spares biases and normalisation."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate, fused=True)


def schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, n_steps: int):
    """Return the recipe's schedule of the learning rate, over so many steps if it is one cycle."""
    if recipe.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_patience
        )
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, n_steps, pct_start=0.15, final_div_factor=100
    )


def running_mean(decay: float) -> Callable:
    """Return the update of a running mean of weights, as AveragedModel takes it.

    The first steps count as much as there are of them, so that a short training does not keep
    the weights it started from: the decay after n steps is (1 + n) / (10 + n), at most `decay`.
    """

    def update(averages: list, weights: list, n_averaged: torch.Tensor) -> None:
        n = int(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, weights, n_averaged)

    return update


def kept_epoch(history: list[dict], recipe: Recipe) -> int:
    """Return the last epoch, or with the plateau schedule the one of best validation accuracy.

    Of equally accurate epochs the one of lowest loss is kept.
    """
    if recipe.schedule == "one_cycle":
        return history[-1]["epoch"]
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    return best["epoch"]


def distillation_loss(
    logits: torch.Tensor, taught: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the divergence from a teacher's softened decisions, summed over the batch, in nat.

    Parameters
    ----------
    logits, taught : tensors, shape (batch, classes), of the student and of the teacher.
    temperature : float, above 0; its square keeps gradients of one size at all temperatures.

    References
    ----------
    hinton2015distilling, section 2.
    """
    divergence = nn.functional.kl_div(
        (logits / temperature).log_softmax(1),
        (taught / temperature).log_softmax(1),
        reduction="sum",
        log_target=True,
    )
    return temperature**2 * divergence
