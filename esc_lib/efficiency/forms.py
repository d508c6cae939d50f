"""What it costs to listen: every form of a classifier, timed and judged on the same clips."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.config import RECIPES, Network, Profile, variant
from esc_lib.data.clips import Data
from esc_lib.efficiency import onnx
from esc_lib.efficiency.network_cost import multiply_adds
from esc_lib.efficiency.pruning import settings_of
from esc_lib.evaluation.intervals import accuracy
from esc_lib.machine import hardware
from esc_lib.machine.timing import latency
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint

ENGINES = TORCH, ONNX, INT8 = ("PyTorch", "ONNX", "ONNX, 8 bit")
N_CALIBRATION = 64  # training clips that fix the ranges of 8-bit activations
BATCH = 32

# --------------------------------------------------------------------------- smaller networks


def narrow_network(profile: Profile) -> Network:
    """Return the narrow network of the profile's comparisons, else one of half the channels.

    Examples
    --------
    >>> from esc_lib.config import get_profile
    >>> narrow_network(get_profile("demo")).channels
    (4, 8, 16, 32, 64)
    """
    halved = tuple(max(1, channels // 2) for channels in profile.network.channels)
    return profile.evidence.network or replace(profile.network, channels=halved)


def short_training(profile: Profile, network: Network, epochs: int) -> Profile:
    """Return the profile with another network and a few epochs of the strong recipe.

    A few epochs are not enough for two things: they keep the excerpts of the first stage
    throughout, and the last weights count instead of their running mean.
    """
    strong = RECIPES["strong"]
    stages = (replace(strong.stages[0], share=1.0),)
    recipe = replace(strong, name="strong, short", ema_decay=0.0, stages=stages)
    return variant(profile, network=network, epochs=epochs, recipe=recipe)


# --------------------------------------------------------------------------- forms of a network


@dataclass(frozen=True)
class Form:
    """A network in the file that an engine runs."""

    network: str  # what it is called
    engine: str  # one of `ENGINES`
    model: SECNN  # that the file was made from
    path: Path

    def classifier(self, threads: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from features (batch, 1, mel, frames) to logits, both on the CPU.

        PyTorch's threads are a setting of the whole process: :func:`hardware.torch_threads`.
        """
        if self.engine != TORCH:
            session = onnx.onnx_session(self.path, threads)
            return lambda x: torch.from_numpy(onnx.onnx_logits(session, x.numpy()))
        model = copy.deepcopy(self.model).cpu().eval().to(memory_format=torch.channels_last)

        def classify(features: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return model(features.contiguous(memory_format=torch.channels_last))

        return classify


def make_forms(
    name: str, model: SECNN, data: Data, profile: Profile, folder: Path
) -> dict[str, Form]:
    """Write a network as a checkpoint, as an ONNX file, and as one of 8-bit integers.

    Parameters
    ----------
    name : of the network, and of its files.
    data : some of its training clips calibrate the 8-bit form.
    profile : for its front end.

    Returns
    -------
    dict of engine to Form.
    """
    suffixes = {TORCH: ".safetensors", ONNX: ".onnx", INT8: ".int8.onnx"}
    found = {e: Form(name, e, model, folder / f"{name}{suffixes[e]}") for e in ENGINES}
    settings = replace(profile, network=settings_of(model))
    checkpoint.save(found[TORCH].path, model, settings, data.class_names)
    own = profile.front_end
    onnx.export_onnx(model, found[ONNX].path, own.n_mels, own.n_frames)
    rows = data.split.train[:: max(1, len(data.split.train) // N_CALIBRATION)][:N_CALIBRATION]
    calibration = features_of(data, LogMel(own), rows).split(4)
    onnx.quantise_int8(found[ONNX].path, found[INT8].path, (b.numpy() for b in calibration))
    return found


# ------------------------------------------------------------------------------ costs, decisions


def costs(forms: list[Form], data: Data, front_end: LogMel, repeats: int = 50) -> pd.DataFrame:
    """Count and time every form on one validation clip and one thread of this machine's CPU.

    Parameters
    ----------
    front_end : on the CPU.
    repeats : timed calls.

    Returns
    -------
    DataFrame, indexed by network and engine: parameters, multiply_adds, file_mb, front_end_ms
        (median), clip_ms (median, from waveform to logits), first_quartile_ms, third_quartile_ms,
        real_time_factor (clip_ms over the clip's own length; below 1 keeps up).
    """
    waveform, n_valid = data.batch(data.split.validation[:1])
    own = front_end.settings
    rows = {}
    with hardware.torch_threads(1):
        alone = latency(lambda: front_end.features(waveform, n_valid), repeats)
        for form in forms:
            classify = form.classifier()
            whole = latency(
                lambda classify=classify: classify(front_end.features(waveform, n_valid)), repeats
            )
            rows[form.network, form.engine] = {
                "parameters": sum(p.numel() for p in form.model.parameters()),
                "multiply_adds": multiply_adds(form.model, own.n_mels, own.n_frames),
                "file_mb": form.path.stat().st_size / 1e6,
                "front_end_ms": alone.median_ms,
                "clip_ms": whole.median_ms,
                "first_quartile_ms": whole.first_quartile_ms,
                "third_quartile_ms": whole.third_quartile_ms,
                "real_time_factor": whole.median_ms / 1e3 / (n_valid.item() / own.sr),
            }
    return _table(rows)


def features_of(data: Data, front_end: LogMel, rows: np.ndarray) -> torch.Tensor:
    """Return what a network sees of whole clips, on the CPU, shape (clips, 1, mel, frames)."""
    batches = np.array_split(rows, max(1, -(-len(rows) // BATCH)))
    device = front_end.window.device
    return torch.cat([front_end.features(*data.batch(b, device)).cpu() for b in batches])


def decide(forms: list[Form], features: torch.Tensor) -> pd.DataFrame:
    """Return the class that each form (a column) gives each clip (a row)."""
    decided = {}
    for form in forms:
        classify = form.classifier(torch.get_num_threads())
        logits = torch.cat([classify(batch) for batch in features.split(BATCH)])
        decided[form.network, form.engine] = logits.argmax(dim=1).numpy()
    return pd.DataFrame(decided)


def accuracy_table(decided: pd.DataFrame, labels: np.ndarray, sources: np.ndarray) -> pd.DataFrame:
    """Return, for each column of :func:`decide`, how often it is right.

    Returns
    -------
    DataFrame, indexed by network and engine, in percent: accuracy with the ends of its 95 %
        interval over source recordings (low, high), and agreement, the share of clips that get the
        same class as from the first column.
    """
    first = decided.iloc[:, 0]
    rows = {}
    for form, classes in decided.items():
        found = accuracy(classes == labels, sources)
        rows[form] = dict(zip(("accuracy", "low", "high"), found, strict=True))
        rows[form]["agreement"] = 100 * float((classes == first).mean())
    return _table(rows)


def presented(table: pd.DataFrame) -> pd.DataFrame:
    """Return five columns of costs and two of decisions as text, each interval in its cell.

    Parameters
    ----------
    table : :func:`costs` joined with :func:`accuracy_table`.
    """

    def spread(middle: str, low: str, high: str) -> list[str]:
        rows = table[[middle, low, high]].itertuples(index=False)
        return [f"{m:.1f} ({a:.1f} to {b:.1f})" for m, a, b in rows]

    return pd.DataFrame(
        {
            "parameters (k)": (table.parameters / 1e3).map("{:,.0f}".format),
            "multiply-adds (M)": (table.multiply_adds / 1e6).map("{:,.1f}".format),
            "file (MB)": table.file_mb.map("{:.2f}".format),
            "ms (quartiles)": spread("clip_ms", "first_quartile_ms", "third_quartile_ms"),
            "factor": table.real_time_factor.map("{:.2g}".format),
            "accuracy, % (95 % interval)": spread("accuracy", "low", "high"),
            "agreement (%)": table.agreement.map("{:.1f}".format),
        },
        index=table.index,
    )


def _table(rows: dict[tuple[str, str], dict]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(rows), names=["network", "engine"])
    return pd.DataFrame(list(rows.values()), index=index)
