"""Narrower networks out of wide ones: structured pruning."""

import math

import torch

from esc_lib.config import Network
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN


def settings_of(model: SECNN) -> Network:
    """Return the settings of a network, read off its layers."""
    channels = tuple(getattr(model, name).conv2.out_channels for name in BLOCKS)
    hidden = [getattr(model, name).fc1.out_features for name in GATES]
    reduction = min(width // units for width, units in zip(channels[1:], hidden))
    return Network(channels, reduction, model.fc1.out_features, model.dropout.p)


def prune_channels(model: SECNN, keep: float) -> SECNN:
    """Return a narrower copy that keeps the most important share of every layer's filters.

    The importance of a filter is the magnitude of its batch-norm scale: what follows the
    normalisation is proportional to it, whereas the norm of the filter itself is divided out.

    Parameters
    ----------
    model : unchanged.
    keep : in (0, 1], a multiple of 1 / se_reduction: share of the filters of each of the
        ten convolutions. Parameters and multiply-adds of a block fall as its square.

    Returns
    -------
    pruned : on the same device and in the same mode, an ordinary network of
        ``settings_of(pruned)``. It has to be fine-tuned: the running statistics behind a
        narrowed convolution are those of the wide one.

    Raises
    ------
    TypeError, ValueError
        If `model` is no SECNN; if `keep` is out of range or no such multiple.

    Notes
    -----
    ``se_reduction`` shrinks along with the channels, so that the gates keep all their hidden
    units; the widths of the two layers behind the pooling stay. Where the dropped filters give
    zero everywhere, the logits are therefore exactly the same. The source ranks the filters of
    all layers together and trains with a penalty on the scales; here each layer has its own
    ranking, so that one width describes a block, and the scales are taken as they are.

    Examples
    --------
    >>> settings_of(prune_channels(SECNN(50), 0.5)).channels
    (32, 64, 128, 256, 512)

    References
    ----------
    liu2017slimming, section 3.
    """
    if not isinstance(model, SECNN):
        raise TypeError(f"prune_channels: model is a {type(model).__name__}, expected an SECNN.")
    settings = settings_of(model)
    if not 0 < keep <= 1:
        raise ValueError(f"prune_channels: keep={keep}, expected a share in (0, 1].")
    reduction = round(keep * settings.se_reduction)
    if not math.isclose(reduction, keep * settings.se_reduction):
        raise ValueError(
            f"prune_channels: keep={keep} would cut units of the gates; "
            f"choose a multiple of 1/{settings.se_reduction}."
        )
    channels = tuple(max(1, c * reduction // settings.se_reduction) for c in settings.channels)
    narrow = Network(channels, reduction, settings.hidden, settings.dropout)
    weights = model.state_dict()
    inputs = torch.zeros(1, dtype=torch.long)  # the one channel of the features
    for i, block in enumerate(BLOCKS):
        for layer in ("1", "2"):
            scales = weights[f"{block}.bn{layer}.weight"].abs().cpu()
            # a stable order, so that equal scales give the same network everywhere
            kept = scales.argsort(descending=True, stable=True)[: channels[i]].sort().values
            convolution = f"{block}.conv{layer}.weight"
            weights[convolution] = weights[convolution][kept][:, inputs]
            for name in ("weight", "bias", "running_mean", "running_var"):
                weights[f"{block}.bn{layer}.{name}"] = weights[f"{block}.bn{layer}.{name}"][kept]
            inputs = kept
        if i > 0:  # a gate: (units, averages of all channels then maxima of all channels)
            squeezed = torch.cat([inputs, settings.channels[i] + inputs])
            down, up = f"{GATES[i - 1]}.fc1.weight", f"{GATES[i - 1]}.fc2.weight"
            weights[down], weights[up] = weights[down][:, squeezed], weights[up][inputs]
    weights["fc1.weight"] = weights["fc1.weight"][:, inputs]
    pruned = SECNN(model.fc2.out_features, narrow)
    pruned.load_state_dict(weights)
    return pruned.to(model.fc1.weight).train(model.training)
