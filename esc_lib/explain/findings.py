"""What the judged explanations of one network say, as numbers and as sentences."""

from collections.abc import Mapping

import pandas as pd

from esc_lib.evaluation.intervals import versus
from esc_lib.explain import scores
from esc_lib.explain.methods import EQUALISER, OURS, SIGNED_IG, UNTRAINED
from esc_lib.explain.scores import FIVE, SCORES, Score
from esc_lib.study.metrics import Metric

WITHOUT = {
    "equaliser": EQUALISER,
    "no_layer": "control: H = 1",
    "permuted": "control: H permuted",
    "untrained": UNTRAINED,
    "channels": "relevance of channels",
    "signed": SIGNED_IG,
    "gradcam": "Grad-CAM",
    "random_atoms": "control: random atoms",
}
MOST_TURNED = 10  # percent of the decisions that a specific mask may turn to a wrong class


def metric(table: pd.DataFrame, score: Score, method: str, unit: str = "") -> Metric:
    """Return a cell of ``scores.summary`` or ``scores.against`` with its interval."""
    row = table[score.name].loc[method]
    return Metric(float(row["mean"]), unit, int(row.n), (float(row.low), float(row.high)))


def numbers(judged: pd.DataFrame) -> dict[str, Metric | str | int]:
    """Return what a page quotes of one network's judged explanations, see ``folds.collect``.

    Names of methods are those of `WITHOUT`, and "ours"; "<name>_minus_ours" is the paired
    difference in the criterion over clean and mixed clips, "<condition>_<judge>" our gain by a
    second judge, "<condition>_<judge>_ahead" that above the gradient equaliser's.
    """
    by_condition = {"clean": judged[judged.condition == "clean"]}
    by_condition["mixed"] = judged[judged.condition == "other clip"]
    both, criterion = pd.concat(by_condition.values()), SCORES["criterion"]
    found: dict[str, Metric | str | int] = {
        "folds": int(judged.fold.nunique()),
        "clips": len(judged[["fold", "row"]].drop_duplicates()),
        "judges": ", ".join(scores.judges_in(judged)),
    }
    means, apart = scores.summary(both, [criterion]), scores.against(both, OURS, [criterion])
    found["criterion_ours"] = metric(means, criterion, OURS)
    for key, method in WITHOUT.items():
        if method in means.index:
            found[f"criterion_{key}"] = metric(means, criterion, method)
            found[f"{key}_minus_ours"] = metric(apart, criterion, method)
    for condition, table in by_condition.items():
        ours = scores.summary(table[table.method == OURS], FIVE)
        found |= {
            f"{condition}_{each.name.lower().replace('-', '_')}": metric(ours, each, OURS)
            for each in FIVE
        }
        asked = [scores.of_judge(name) for name in scores.judges_in(judged)]
        gains, ahead = scores.summary(table, asked), scores.against(table, EQUALISER, asked)
        for each in asked:
            key = f"{condition}_{each.name.removeprefix('gain ').lower().replace(' ', '_')}"
            found[key] = metric(gains, each, OURS)
            found[f"{key}_ahead"] = metric(ahead, each, OURS)
    clean = by_condition["clean"]
    for key, name in (("specificity", "specificity"), ("turned", "turned"), ("budget", "budget")):
        table = scores.summary(clean, [SCORES[name]])
        found[key] = metric(table, SCORES[name], OURS)
        found[f"{key}_equaliser"] = metric(table, SCORES[name], EQUALISER)
    for name in ("lift", "precision"):
        table = scores.summary(by_condition["mixed"], [SCORES[name]])
        for method in (OURS, "control: constant", "oracle"):
            key = "ours" if method == OURS else method.removeprefix("control: ")
            found[f"{name}_{key}"] = metric(table, SCORES[name], method)
    return found


def with_interval(one: Metric, form: str = "+.2f") -> str:
    """Return a number with its interval, as "+0.10 (-0.05 to +0.25)"."""
    low, high = one.interval
    return f"{one.value:{form}} ({low:{form}} to {high:{form}})"


def without_the_layer(found: Mapping) -> str:
    """Say whether our masks need the hidden layer, judged by the network they explain."""
    parts = []
    controls = {"equaliser": "the gradient equaliser, which has no hidden layer and no dictionary"}
    controls |= {"no_layer": "H = 1 in the place of every H", "permuted": "H permuted"}
    controls |= {"untrained": "H of untrained networks"}
    for key, name in controls.items():
        if f"{key}_minus_ours" in found:
            gap = found[f"{key}_minus_ours"]
            parts.append(f"{name}, is {versus(*gap.interval)} them ({with_interval(gap)})")
    needed = all(found[f"{key}_minus_ours"].interval[1] < 0 for key in ("equaliser", "no_layer"))
    verdict = "they need the hidden layer" if needed else "no hidden layer is needed for them"
    return (
        f"our masks reach a criterion of {found['criterion_ours'].value:.2f} on "
        f"{found['clips']:,d} clips, clean and mixed; {'; '.join(parts)}: {verdict}"
    )


def to_others(found: Mapping) -> str:
    """Say what second judges hear in what our masks keep."""
    parts = []
    for name in found["judges"].split(", "):
        key = name.lower().replace(" ", "_")
        clean, mixed = (with_interval(found[f"{c}_{key}"]) for c in ("clean", "mixed"))
        ahead = versus(*found[f"mixed_{key}_ahead"].interval)
        parts.append(f"{name} {clean} on clean clips, {mixed} on mixtures, {ahead} the equaliser")
    return "; ".join(parts)


def is_specific(found: Mapping) -> str:
    """Say whether our masks pass the test of specificity."""
    above = found["specificity"].interval[0] > 0
    few = found["turned"].value <= MOST_TURNED
    passed = "pass" if above and few else "do not pass"
    return (
        f"asked for a class that is wrong, they turn {found['turned'].value:.0f} % of the "
        f"decisions to it (the equaliser {found['turned_equaliser'].value:.0f} %; at most "
        f"{MOST_TURNED} % pass), and the right class gains {with_interval(found['specificity'])} "
        f"more than the wrong one: they {passed}"
    )


def sentences(found: Mapping) -> dict[str, str]:
    """Return all that is said of one network, by subject."""
    return {
        "without": without_the_layer(found),
        "others": to_others(found),
        "specific": is_specific(found),
    }
