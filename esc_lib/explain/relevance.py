"""How much each atom speaks for a decision.

The decision is the log-odds of the explained class: its logit against the log-sum-exp of all
others. Unlike a probability it does not saturate, and unlike the logit alone it also falls when
another class gains.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import torch
from torch import nn

from esc_lib.explain.conditions import BATCH
from esc_lib.layers.hooks import record, reduce_frequency
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


def _backward(
    model: nn.Module,
    layers: Sequence[str],
    features: torch.Tensor,
    targets: torch.Tensor | None,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    roots: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Go forward and backward once; without targets the classes are those decided on the way.

    Returns logits, the score's gradients at the roots of the features, and the layers' maps with
    the gradients there; all float32.
    """
    with (
        record(model, layers, keep_graph=True) as maps,
        torch.enable_grad(),
        autocast(features.device),
    ):
        logits = model(features)
    logits = logits.float()
    targets = logits.argmax(dim=1) if targets is None else targets
    total = score(logits, targets).sum()  # clips do not touch each other
    wanted = [*roots, *(maps[layer] for layer in layers)]
    gradients = [each.float() for each in torch.autograd.grad(total, wanted)]
    of_layers = zip(layers, gradients[len(roots) :], strict=True)
    found = {layer: (maps[layer].detach().float(), gradient) for layer, gradient in of_layers}
    return logits.detach(), gradients[: len(roots)], found


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
        yield _backward(model, layers, some.detach().requires_grad_(), classes, score)[2]


@dataclass(frozen=True)
class Read:
    """What one forward and one backward pass show of some decisions.

    References
    ----------
    shrikumar2017learning, section 2.2 (gradient times input), for the channels.
    """

    given: torch.Tensor  # probabilities, (clips, classes)
    # how the log-odds change with the level of each band and frame, (clips, mel, frames), per neper
    # (8.7 dB); through the clip's standardisation: to turn one band down is to turn all others up
    bands: torch.Tensor
    # each layer's H, and the channels' gradient times activation in the layer that it is read at,
    # both (clips, channels, frames): averaged over frequency, and summed over it
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]]

    def only(self, places: torch.Tensor) -> Self:
        """Return what was read of the clips at these places."""
        layers = {layer: (h[places], by[places]) for layer, (h, by) in self.layers.items()}
        return Read(self.given[places], self.bands[places], layers)


def read(
    model: nn.Module,
    front_end: LogMel,
    waveforms: torch.Tensor,
    n_valid: torch.Tensor,
    targets: torch.Tensor | None = None,
    layers: Mapping[str, str] = MappingProxyType({}),
) -> Read:
    """Read sounds, (clips, samples), of some classes, int (clips,): by default those predicted.

    Layers are those whose H is read, each with the one at which its channels are: itself, or its
    gate.
    """
    given, bands, of_layers = [], [], []
    every = tuple(dict.fromkeys((*layers, *layers.values())))
    classes = [None] * -(-len(waveforms) // BATCH) if targets is None else targets.split(BATCH)
    batches = zip(waveforms.split(BATCH), n_valid.split(BATCH), classes, strict=True)
    for some, lengths, its in batches:
        log_mel = front_end(some, lengths).requires_grad_()
        frame = torch.arange(log_mel.shape[2], device=log_mel.device)
        inside = (frame < front_end.n_valid_frames(lengths)[:, None])[:, None]
        with torch.enable_grad():
            features = standardise(log_mel, inside).unsqueeze(1)
        logits, (slope,), found = _backward(model, every, features, its, log_odds, [log_mel])
        given.append(logits.softmax(dim=1))
        bands.append(NEPER_DB * slope)
        read_at = [(found[layer][0], *found[at]) for layer, at in layers.items()]
        of_layers.append([(reduce_frequency(h), (maps * g).sum(dim=2)) for h, maps, g in read_at])
    each = (tuple(map(torch.cat, zip(*parts))) for parts in zip(*of_layers))
    return Read(torch.cat(given), torch.cat(bands), dict(zip(layers, each, strict=True)))


def of_atoms(bands: torch.Tensor, w: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Share the relevance of bands, (batch, mel, frames of H), among atoms as they share in W H.

    The result has the shape of H, (batch, atoms, frames): to first order, the change of the score
    per neper that an atom is turned up. All atoms together have what the bands have, wherever an
    atom is active.
    """
    return h * (w.T @ (bands / (w @ h + 1e-12)))


def to_one_level(relevance: torch.Tensor) -> torch.Tensor:
    """Scale each clip's relevance, (batch, atoms, frames), to a mean size of one; zero stays."""
    size = relevance.abs().mean(dim=(1, 2), keepdim=True)
    return relevance / size.clamp_min(1e-30)
