"""What the SE gates do, and what the trained network loses when they are forced.

What belongs to a gate is found by its name; labels are int arrays, shape (clips,).
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from esc_lib.data.clips import Data
from esc_lib.evaluation.decisions import variance_between_classes
from esc_lib.evaluation.intervals import mean_interval
from esc_lib.layers.hooks import stream
from esc_lib.machine.hardware import autocast
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN
from esc_lib.sound.log_mel import LogMel

BEFORE = dict(zip(GATES, BLOCKS[1:]))  # gate to the block whose maps it scales
CLOSED_BELOW = 0.05  # a gate below this lets so little through that the channel counts as closed


@torch.no_grad()
def se_gates(model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray) -> dict:
    """Return every SE gate's values: name to array, shape (clips, channels), in (0, 1)."""
    values: dict[str, list] = {gate: [] for gate in GATES}
    for _, _, maps in stream(model, front_end, data, rows, list(BEFORE.values())):
        for gate, block in BEFORE.items():
            values[gate].append(getattr(model, gate).gate(maps[block].float()).cpu())
    return {gate: torch.cat(parts).numpy() for gate, parts in values.items()}


def describe(gates: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """Return what each gate does, a row each, from :func:`se_gates`'s values over clips.

    Columns are mean and sd over clips and channels; in percent the values that are closed (below
    `CLOSED_BELOW`), the channels that are so for every clip, the values at exactly one half (what
    a gate gives whose hidden units are all silent), and the variance between classes.
    """
    return pd.DataFrame(
        {
            gate: {
                "mean": values.mean(),
                "sd": values.std(),
                "closed (%)": 100 * (values < CLOSED_BELOW).mean(),
                "closed for every clip (%)": 100 * (values.max(axis=0) < CLOSED_BELOW).mean(),
                "at exactly 0.5 (%)": 100 * (values == 0.5).mean(),
                "variance between classes (%)": 100 * variance_between_classes(values, labels),
            }
            for gate, values in gates.items()
        }
    ).T


@contextmanager
def forced_gates(
    model: SECNN, values: Mapping[str, float | np.ndarray | torch.Tensor]
) -> Iterator[None]:
    """Give gates other values during the forward passes inside the block.

    A gate's value is one number for all its channels, or an array, shape (channels,) or (batch,
    channels).

    Raises
    ------
    ValueError : the model has no gate of that name, or the values do not fit its channels.
    """
    for gate, factors in values.items():
        if gate not in GATES:
            raise ValueError(
                f"forced_gates: gate={gate!r} is unknown; choose one of {', '.join(GATES)}."
            )
        shape, channels = np.shape(factors), getattr(model, gate).fc2.out_features
        if shape and shape[-1] != channels:
            raise ValueError(
                f"forced_gates: values of {gate} have shape {shape}; "
                f"give one number, or one for each of its {channels} channels."
            )

    def force(factors, _module, inputs, _output):
        (maps,) = inputs
        return maps * torch.as_tensor(factors).to(maps)[..., None, None]

    with ExitStack() as stack:
        for gate, factors in values.items():
            hook = partial(force, factors)
            stack.enter_context(getattr(model, gate).register_forward_hook(hook))
        yield


def resume(model: SECNN, layer: str, maps: torch.Tensor) -> torch.Tensor:
    """Return the logits, (batch, classes), from the input maps of a block or gate: `layer`.

    What lies before is not run.
    """
    names = [name for name, _ in model.named_children()]
    for name in names[names.index(layer) :]:
        maps = getattr(model, name)(maps)
        if name == "pool":
            maps = maps.flatten(1)
    return maps


@torch.no_grad()
def forced_logits(
    model: SECNN,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    variants: Mapping[str, Mapping[str, float | np.ndarray | torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """Return the logits of whole clips under each set of forced gates.

    A variant is what :func:`forced_gates` takes; an empty one leaves the network as it is. All of
    a batch share the layers before the first forced gate. Logits are float32 on the CPU, shape
    (clips, classes), rows in the order given.
    """
    logits: dict[str, list] = {name: [] for name in variants}
    for _, _, maps in stream(model, front_end, data, rows, list(BEFORE.values())):
        for name, values in variants.items():
            first = next((gate for gate in GATES if gate in values), GATES[-1])
            block = maps[BEFORE[first]]
            with autocast(block.device), forced_gates(model, values):
                logits[name].append(resume(model, first, block).float().cpu())
    return {name: torch.cat(parts) for name, parts in logits.items()}


def variants(means: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | np.ndarray]]:
    """Return what each gate, and all of them, are forced to, for :func:`forced_logits`.

    "as trained" comes first, then "se1, open" and so on: open is 1 in every channel, half is 0.5,
    mean is `means`, a gate's mean value per channel over training clips, which keeps a gate's
    weights and drops what it makes of the single clip.
    """
    forced: dict[str, dict] = {"as trained": {}}
    for name, gates in [*((gate, (gate,)) for gate in GATES), ("all", GATES)]:
        forced[f"{name}, mean"] = {gate: means[gate] for gate in gates}
        forced[f"{name}, half"] = dict.fromkeys(gates, 0.5)
        forced[f"{name}, open"] = dict.fromkeys(gates, 1.0)
    return forced


def compare(
    logits: Mapping[str, torch.Tensor], labels: np.ndarray, draws: np.ndarray
) -> pd.DataFrame:
    """Compare decisions on the same clips with those of the first entry.

    Logits are (clips, classes), draws those of ``intervals.source_draws``.

    Returns
    -------
    DataFrame, a row per entry: accuracy (%), its difference to the first entry (points, 95 %
        interval low to high), changed (clips with another decision), nll (negative log-likelihood
        of the true class, nats per clip) and its difference with nll_low and nll_high.
    """
    columns = ["accuracy", "difference", "low", "high", "changed", "nll"]
    columns += [f"nll_{name}" for name in columns[1:4]]
    rows, first = [], ()
    for values in logits.values():
        decided = values.argmax(dim=1).numpy()
        right = 100.0 * (decided == labels)
        nll = cross_entropy(values, torch.from_numpy(labels), reduction="none").numpy()
        first = first or (decided, right, nll)
        accuracy = (right.mean(), *mean_interval(right - first[1], draws))
        loss = (nll.mean(), *mean_interval(nll - first[2], draws))
        rows.append((*accuracy, (decided != first[0]).sum(), *loss))
    return pd.DataFrame(rows, list(logits), columns)


def share_of_parameters(model: SECNN) -> float:
    """Return the share of a network's parameters that its gates hold, in percent."""
    own = sum(p.numel() for gate in GATES for p in getattr(model, gate).parameters())
    return 100 * own / sum(p.numel() for p in model.parameters())


def verdict(row: pd.Series) -> str:
    """Say in words what a row of :func:`compare` shows: a loss counts where its interval does."""
    if row.high < 0:
        return "decisions get worse"
    if row.nll_low > 0:
        return "probabilities get worse, decisions not measurably"
    return "nothing gets measurably worse"
