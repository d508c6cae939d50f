"""How well dictionaries do on clips they have not seen: by layer, by clip, by class, by loss."""

from collections.abc import Mapping

import pandas as pd
import torch

from esc_lib import config
from esc_lib.dictionaries import fitting
from esc_lib.dictionaries.fitting import LayerFits, fit_layer
from esc_lib.dictionaries.gather import Gathered
from esc_lib.dictionaries.models import MODELS, LinearNoBiasSoftplus
from esc_lib.dictionaries.solvers import divergence, free_factorization, solve_divergence
from esc_lib.dictionaries.statistics import mean_spectrum_error
from esc_lib.evaluation.decisions import root_ratio
from esc_lib.evaluation.intervals import source_draws

LOSSES = {"squared error": 2.0, "Kullback-Leibler": 1.0, "Itakura-Saito": 0.0}


def by_layer(
    fits: Mapping[str, LayerFits],
    hidden: Mapping[tuple[str, str], Gathered],
    settings: config.Dictionaries,
    seed: int,
) -> pd.DataFrame:
    """Return relative errors on test clips, a row per layer, a column per way to come by W and H.

    The keys of `hidden` are (network, part): networks "trained" and "untrained", the latter with
    noise; parts "train" and "test".
    """
    train, test = hidden["trained", "train"], hidden["trained", "test"]
    others = hidden["untrained", "train"], hidden["untrained", "test"]
    rows = {}
    for layer, fitted in fits.items():
        found = fitted.errors(test.statistics[layer])
        both = train.v(layer), test.v(layer)
        found["free NMF"] = free_factorization(*both, len(fitted.scale), seed)
        for name, kind in (("untrained", "statistics"), ("noise", "noise")):
            fit_on, error_on = (getattr(part, kind)[layer] for part in others)
            best = fit_layer(fit_on, settings, seed, models=())
            found[f"optimum, {name} H"] = best.errors(error_on)["optimum"]
        sums = train.statistics[layer], test.statistics[layer]
        found["mean spectrum"] = mean_spectrum_error(*sums)
        rows[layer] = found
    return pd.DataFrame.from_dict(rows, orient="index")


def by_clip(fitted: LayerFits, part: Gathered, layer: str, clips: pd.DataFrame) -> pd.DataFrame:
    """Return each dictionary's squared error, a column each, on every clip of a part.

    The part has kept the layer's H; `clips` are its rows, in their order. Beside the errors stand
    category, source and energy (of V).
    """
    v, h = part.v(layer).double(), part.h[layer].double() * fitted.scale[:, None]
    table = pd.DataFrame(
        {"category": clips.category.to_numpy(), "source": clips.src_file.to_numpy()}
    )
    table["energy"] = v.square().sum(dim=(1, 2)).numpy()
    for name, w in fitted.dictionaries().items():
        table[name] = (v - w @ h).square().sum(dim=(1, 2)).numpy()
    return table


def errors(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return relative error and 95 % interval of each dictionary, from :func:`by_clip`'s table."""
    return _ratios(table, names, "energy", "error")


def prices(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return how many times the optimum's error each dictionary's is, with its 95 % interval."""
    return _ratios(table, names, "optimum", "times the optimum")


def _ratios(table: pd.DataFrame, names: list[str], below: str, label: str) -> pd.DataFrame:
    """Return the root of each column's sum over that of `below`, as `label`, low and high."""
    draws, below = source_draws(table.source.to_numpy()), table[below].to_numpy()
    rows = [root_ratio(table[name].to_numpy(), below, draws) for name in names]
    return pd.DataFrame(rows, names, [label, "low", "high"])


def errors_by_class(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one dictionary's relative error and interval per category, largest error first.

    Beside them stand clips and source recordings: an interval over few recordings is too short.
    """
    rows = {
        category: errors(own, [name]).loc[name].to_dict()
        | {"clips": len(own), "recordings": own.source.nunique()}
        for category, own in table.groupby("category")
    }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("error", ascending=False)


def by_loss(
    train: Gathered, test: Gathered, layer: str, scale: torch.Tensor,
    settings: config.Dictionaries, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Fit every model under every loss, and judge each by every loss on test clips.

    Returns
    -------
    DataFrame, a row per (loss, model), columns the three divergences, each relative to that of the
        training clips' mean spectrum; "best W" comes from multiplicative updates.
    """
    factor = scale[:, None].float()
    v, h = train.v(layer), train.h[layer] * factor
    v_test, h_test = test.v(layer), test.h[layer] * factor
    statistics = train.statistics[layer].scaled(scale)
    mean = v.mean(dim=(0, 2))[:, None]
    rows = {}
    for loss, beta in LOSSES.items():
        for model in MODELS:
            generator = torch.Generator().manual_seed(seed)
            on_frames = fitting.divergence_loss(v, h, beta, generator)
            new = model(statistics, generator)
            fitting.fit(new, statistics, settings, loss=on_frames)
            w = new.dictionary().detach().float()
            rows[loss, model.__name__] = _judged(w @ h_test, v_test, mean)
        best = solve_divergence(v, h, beta)
        rows[loss, "best W"] = _judged(best @ h_test, v_test, mean)
    return pd.DataFrame.from_dict(rows, orient="index")


def _judged(estimate: torch.Tensor, v: torch.Tensor, mean: torch.Tensor) -> dict[str, float]:
    return {
        name: float(divergence(v, estimate, beta) / divergence(v, mean.expand_as(v), beta))
        for name, beta in LOSSES.items()
    }


def above_optimum(
    fits: Mapping[str, LayerFits], train: Gathered, settings: config.Dictionaries, seed: int
) -> dict[str, float]:
    """Return by what share the free dictionary's error on training clips exceeds the least.

    Its fit is made without a smoothness penalty: what is left is what its steps did not reach.
    """
    found = {}
    for layer, fitted in fits.items():
        sums = train.statistics[layer]
        free = fit_layer(sums, settings, seed, (LinearNoBiasSoftplus,), solve=False)
        error = free.errors(sums)[LinearNoBiasSoftplus.__name__]
        found[layer] = error / fitted.errors(sums)["optimum"] - 1
    return found


def character(fitted: LayerFits, part: Gathered, layer: str) -> pd.DataFrame:
    """Return what the thesis says of each model's atoms and output (4.3.2, 4.3.4), as numbers.

    Returns
    -------
    DataFrame, a row per dictionary and one for V itself: step between neighbouring bands of W
        (root mean square, relative to W's); share of the output's energy in the upper half of the
        mel bands; surplus and missing, the energy of what the output has too much and too little,
        relative to V's.
    """
    v, h = part.v(layer).double(), part.h[layer].double() * fitted.scale[:, None]
    upper = v.shape[1] // 2
    rows = {"V": {"energy above the middle": float(v[:, upper:].square().sum() / v.square().sum())}}
    for name, w in fitted.dictionaries().items():
        output = w @ h
        energy, gap = output.square(), output - v
        rows[name] = {
            "step between bands": fitting.step_between_bands(w),
            "energy above the middle": float(energy[:, upper:].sum() / energy.sum()),
            "surplus": float(gap.clamp_min(0).square().sum() / v.square().sum()),
            "missing": float(gap.clamp_max(0).square().sum() / v.square().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
