"""How much each atom speaks for a decision.

The decision is the log-odds of the explained class: its logit against the log-sum-exp of all
others. Unlike a probability it does not saturate, and unlike the logit alone it also falls when
another class gains.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from esc_lib.explain.conditions import BATCH
from esc_lib.layers.hooks import frames_per_step, pool_frames, record, reduce_frequency
from esc_lib.machine.hardware import autocast
from esc_lib.sound.log_mel import LogMel, standardise

NEPER_DB = 8.685889638065036  # 20 / ln 10


def of_target(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return each clip's value for its target class, (batch,) of (batch, classes)."""
    return values.gather(1, targets[:, None])[:, 0]


def log_odds(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of each clip's target class against all others, shape (batch,)."""
    others = logits.scatter(1, targets[:, None], -torch.inf).logsumexp(dim=1)
    return of_target(logits, targets) - others


def maps_and_gradients(
    model: nn.Module,
    layers: Sequence[str],
    features: torch.Tensor,
    targets: torch.Tensor,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = log_odds,
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Yield, batch by batch, layers' activation maps and the gradient of the score there.

    Features are (batch, 1, mel, frames); both results float32, (16, channels, mel, frames). The
    score is one of logits and targets.
    """
    for some, classes in zip(features.split(BATCH), targets.split(BATCH), strict=True):
        with (
            record(model, layers, keep_graph=True) as maps,
            torch.enable_grad(),
            autocast(features.device),
        ):
            logits = model(some.detach().requires_grad_())
        total = score(logits.float(), classes).sum()  # clips do not touch each other
        gradients = torch.autograd.grad(total, [maps[layer] for layer in layers])
        yield {
            layer: (maps[layer].detach().float(), gradient.float())
            for layer, gradient in zip(layers, gradients, strict=True)
        }


def of_channels(
    model: nn.Module, layers: Sequence[str], features: torch.Tensor, targets: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return every layer's H and its channels' gradient times activation.

    Both are (batch, channels, frames): averaged over frequency, and summed over it.

    References
    ----------
    shrikumar2017learning, section 2.2 (gradient times input).
    """
    found: dict[str, list] = {layer: [] for layer in layers}
    for batch in maps_and_gradients(model, layers, features, targets):
        for layer, (maps, gradient) in batch.items():
            found[layer].append((reduce_frequency(maps), (maps * gradient).sum(dim=2)))
    return {layer: tuple(map(torch.cat, zip(*parts))) for layer, parts in found.items()}


def of_bands(
    model: nn.Module,
    front_end: LogMel,
    waveforms: torch.Tensor,
    n_valid: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Return how the log-odds change with the level of each band and frame, (batch, mel, frames).

    Per neper (8.7 dB). The gradient goes through the standardisation of the clip: to turn one band
    down is to turn all others up.
    """
    found = []
    batches = (each.split(BATCH) for each in (waveforms, n_valid, targets))
    for some, lengths, classes in zip(*batches, strict=True):
        log_mel = front_end(some, lengths).requires_grad_()
        frame = torch.arange(log_mel.shape[2], device=log_mel.device)
        inside = (frame < front_end.n_valid_frames(lengths)[:, None])[:, None]
        with torch.enable_grad():
            features = standardise(log_mel, inside).unsqueeze(1)
            with autocast(features.device):
                logits = model(features)
            total = log_odds(logits.float(), classes).sum()
        found.append(NEPER_DB * torch.autograd.grad(total, log_mel)[0])
    return torch.cat(found)


def of_atoms(bands: torch.Tensor, w: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Share the relevance of bands, :func:`of_bands`, out among atoms, as they share in W H.

    The result has the shape of H, (batch, atoms, frames of the layer): to first order, the change
    of the score per neper that an atom is turned up. All atoms together have what the bands have,
    wherever an atom is active.
    """
    step = frames_per_step(bands.shape[-1], h.shape[-1])
    pooled = step * pool_frames(bands, h.shape[-1])
    return h * (w.T @ (pooled / (w @ h + 1e-12)))


def to_one_level(relevance: torch.Tensor) -> torch.Tensor:
    """Scale each clip's relevance, (batch, atoms, frames), to a mean size of one; zero stays."""
    size = relevance.abs().mean(dim=(1, 2), keepdim=True)
    return relevance / size.clamp_min(1e-30)
