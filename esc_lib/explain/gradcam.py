"""Grad-CAM: where in time and frequency a layer supports a class."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

BATCH = 16  # clips at a time: the backward pass holds every layer's maps


def gradcam(
    model: nn.Module, layer: str, features: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Compute Grad-CAM maps on the input's grid.

    Parameters
    ----------
    model : nn.Module in evaluation mode.
    layer : name of a convolutional layer, for example "conv_block5".
    features : tensor, shape (batch, 1, mel, frames).
    targets : int tensor, shape (batch,), the class explained for each clip.

    Returns
    -------
    tensor, shape (batch, mel, frames), >= 0, each map divided by its own maximum; a map that is
        zero everywhere stays zero.

    Raises
    ------
    ValueError
        If the model has no layer of that name.

    References
    ----------
    selvaraju2017gradcam, equations 1 and 2; captum's LayerGradCam.
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        children = ", ".join(name for name, _ in model.named_children())
        raise ValueError(f"gradcam: layer={layer!r} is unknown; choose one of {children}.")
    method = LayerGradCam(model, modules[layer])
    batches = zip(features.split(BATCH), targets.to(features.device).split(BATCH), strict=True)
    maps = torch.cat(
        [
            method.attribute(batch, target=classes, relu_attributions=True).detach()
            for batch, classes in batches
        ]
    )
    maps = LayerAttribution.interpolate(maps, tuple(features.shape[2:]), "bilinear")
    maps = maps.squeeze(1).clamp_min(0)
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def map_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation between two maps of each clip, NaN where one is constant.

    Parameters
    ----------
    first, second : arrays, shape (clips, mel, frames).

    Returns
    -------
    array, shape (clips,), in [-1, 1].
    """
    first, second = (maps.reshape(len(maps), -1) for maps in (first, second))
    varied = (np.ptp(first, axis=1) > 0) & (np.ptp(second, axis=1) > 0)
    found = np.full(len(first), np.nan)
    for clip in np.flatnonzero(varied):
        found[clip] = np.corrcoef(first[clip], second[clip])[0, 1]
    return found
