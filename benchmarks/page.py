"""The page "How fast, how large" of the book, written from what a run of the benchmarks found."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks import _timing
from esc_lib.figures import style

PAGE, CURVES = "speed.md", "_static/speed.svg"
# what is aimed at: script, beginning of the contender's name, "at least" or "at most", how much
GOALS = (
    ("front_end", "ours", "at least", 10.0),
    ("training_step", "ours", "at least", 3.5),
    ("peak", "training step", "at least", 0.5),
    ("explanation", "components (ours)", "at most", 1.7),
)
MEMORY_GOAL_GB, EXPONENT_GOAL = 4.0, 1.0
READS = {
    "front_end": "times as fast", "training_step": "times as fast", "peak": "of its rate",
    "explanation": "times as long", "exact_solver": "times as fast",
}  # fmt: skip
NAMES = {
    "front_end": "front end", "training_step": "training step", "peak": "peak",
    "explanation": "explanation of a clip", "exact_solver": "exact solver",
}  # fmt: skip


# -------------------------------------------------------------------------------- the numbers


def ratios(record: Mapping[str, dict]) -> pd.DataFrame:
    """Return one row per comparison of all scripts: who, against what, median, worst round.

    A ratio is of the medians over rounds; the worst is of one round's own times. ``goal`` is empty
    where there is none, else "met" says whether the worst round reaches it.
    """
    rows = []
    for script in (name for name in NAMES if name in record):
        found = record[script]["environment"]
        mode = [found.get(_timing.MODE), found.get(f"{_timing.MODE}, at the end")]
        mode = sorted({m for m in mode if m is not None})
        for contender, against, ratio, worst in _comparisons(script, record[script]):
            row = {
                "benchmark": NAMES[script], "contender": contender, "against": against,
                "ratio": ratio, "worst round": worst, "reads": READS[script], "goal": "",
                "threads": found["threads"], "bfloat16 peak": " to ".join(map(str, mode)),
            }  # fmt: skip
            for of_script, name, side, value in GOALS:
                if script == of_script and contender.startswith(name) and "sound" not in contender:
                    met = worst >= value if side == "at least" else worst <= value
                    row |= {"goal": f"{side} {value:g}", "met": met}
            rows.append(row)
    return pd.DataFrame(rows)


def _comparisons(script: str, content: dict) -> Iterator[tuple[str, str, float, float]]:
    rows = {row["contender"]: row for row in content["rows"]}
    if script == "peak":
        name, row = list(rows.items())[-1]
        share = row["share_of_peak"]
        yield name, f"{row['dtype']} matrices", share, share * row["seconds"] / row["highest"]
        return
    against = content.get("baseline", next(iter(rows)))
    base = rows[against]
    for name, row in rows.items():
        if name == against:
            continue
        one, other = (row, base) if script == "explanation" else (base, row)
        rounds = [a / b for a, b in zip(one.get("rounds", ()), other.get("rounds", ()))]
        worst = (max if script == "explanation" else min)(rounds, default=np.nan)
        yield name, against, one["seconds"] / other["seconds"], worst


def memory(content: dict) -> pd.DataFrame:
    """Return one row per step: GB at most by number of clips, growth, exponent of the cost.

    Memory is what has to be there, anonymous memory, where the system tells it apart.
    """
    rows = pd.DataFrame(content["rows"])
    rows["gb"] = rows.get("anonymous", rows.peak)
    narrow, full = rows.width.min(), rows.width.max()
    found = {}
    for step, of_step in rows.groupby("contender", sort=False):
        of_full = of_step[(of_step.width == full) & (full > narrow)].set_index("clips")
        of_step = of_step[of_step.width == narrow].set_index("clips")
        found[step] = {
            **{f"GB, {n:,} clips": of_step.gb[n] for n in of_step.index},
            **content["steps"].get(step, {}),
            **{f"GB, {n:,} clips, full network": of_full.gb[n] for n in of_full.index},
            **{f"with files, {n:,} clips": of_full.peak[n] for n in of_full.index},
        }
    found = pd.DataFrame.from_dict(found, orient="index")
    names = {"gb_per_1000": "GB per 1,000 more", "exponent": "exponent of the cost"}
    return found.rename(columns=names)


# --------------------------------------------------------------------------------- the picture


def curves(content: dict) -> Figure:
    """Draw processor time and memory of each step over the number of clips."""
    rows = pd.DataFrame(content["rows"])
    rows["gb"] = rows.get("anonymous", rows.peak)
    rows = rows[rows.width == rows.width.min()]
    style.apply()
    figure = Figure(figsize=(6.8, 3.9), layout="constrained")
    cost, held = figure.subplots(1, 2)
    for i, (step, of_step) in enumerate(rows.groupby("contender", sort=False)):
        line = {
            "color": style.COLOURS[i % len(style.COLOURS)], "label": step,
            "marker": style.MARKERS[i % len(style.MARKERS)],
            "linestyle": style.LINES[i // len(style.COLOURS)],
        }  # fmt: skip
        held.plot(of_step.clips, of_step.gb, **line)
        if "exponent" in content["steps"].get(step, {}):
            cost.plot(of_step.walked, of_step.cpu_s, **line)
    held.axhline(MEMORY_GOAL_GB, color="black", linestyle=":", label="goal")
    cost.set(xlabel="clips walked over", ylabel="processor time (s)", xscale="log", yscale="log")
    held.set(xlabel="clips of the study", ylabel="memory at most (GB)", xscale="log")
    held.set_ylim(0, 1.1 * max(MEMORY_GOAL_GB, rows.gb.max()))
    cost.yaxis.set_major_formatter("{x:g}")
    cost.yaxis.set_minor_formatter("")
    cost.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    cost.xaxis.set_major_formatter("{x:,.0f}")
    held.set_xticks(sorted(rows.clips.unique()), [f"{n:,}" for n in sorted(rows.clips.unique())])
    for ax in (cost, held):
        ax.xaxis.set_minor_formatter("")
    figure.legend(*held.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


# ------------------------------------------------------------------------------------ the page


def text(record: Mapping[str, dict]) -> str:
    """Return the page."""
    table = ratios(record)
    parts = ["# How fast, how large", _opening(table, record), _ratios(table)]
    if "memory" in record:
        parts.append(_memory(record["memory"]))
    return "\n\n".join([*parts, _measured(record)]) + "\n"


def _opening(table: pd.DataFrame, record: Mapping[str, dict]) -> str:
    aimed = table[table.goal != ""]
    lines = [
        "All numbers of this page come from the record that `python -m benchmarks` keeps: us "
        "beside the alternatives, each script in one run ({numref}`tab-machine`). What it found:"
    ]
    for row in aimed.itertuples():
        lines.append(
            f"- *{row.benchmark}*: {row.contender}, {row.ratio:.3g} {row.reads} "
            f"{_as(row.reads)} {row.against}; {row._5:.3g} in the worst round. "
            f"Goal: {row.goal}, {'met' if row.met else 'not met'}."
        )
    if "memory" in record:
        held = memory(record["memory"])
        most = held.filter(like="GB, ").max(axis=None)
        with_files = max(row["peak"] for row in record["memory"]["rows"])
        worst = held["exponent of the cost"].idxmax()
        lines.append(
            f"- *memory* that has to be there: at most {most:.2g} GB in any step and at any number "
            f"of clips measured; goal: at most {MEMORY_GOAL_GB:g} GB, "
            f"{'met' if most <= MEMORY_GOAL_GB else 'not met'}. With the pages of mapped files, "
            f"which the system may drop: at most {with_files:.2g} GB."
        )
        lines.append(
            f"- *cost*: the steps take time as the number of clips to a power of "
            f"{held['exponent of the cost'].min():.2f} to {held['exponent of the cost'].max():.2f} "
            f"(the highest: {worst}); in proportion would be {EXPONENT_GOAL:.0f}."
        )
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _as(reads: str) -> str:
    return "as" if reads.startswith("times") else "on"


def _table(name: str, caption: str, headings: list[str], rows: list[list[str]]) -> str:
    lines = [f"```{{table}} {caption}", f":name: {name}", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings))]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows), "```"])


def _ratios(table: pd.DataFrame) -> str:
    rows = [
        [
            row["benchmark"], row["contender"], row["against"],
            f"{row['ratio']:.3g} {row['reads']}", _number(row["worst round"], ".3g"), row["goal"],
            row["bfloat16 peak"],
        ]
        for _, row in table.iterrows()
    ]  # fmt: skip
    headings = ["benchmark", "contender", "against", "ratio", "worst round", "goal"]
    headings.append("GFLOP/s")
    shown = _table("tab-speed", "Every ratio of the record", headings, rows)
    return (
        "## Ratios\n\nContenders take turns, so that a machine that slows down half-way slows all; "
        "a ratio is of the medians over rounds. *Worst round*: of one round's own times. The last "
        "column is the mode that the machine was in when a script began and ended: the rate of its "
        f"best product of two bfloat16 matrices.\n\n{shown}"
    )


def _memory(content: dict) -> str:
    held = memory(content)
    rows = [
        [step, *(_number(value, ".2f") for value in row)] for step, row in held.iterrows()
    ]
    shown = _table("tab-memory", "Memory of each step", ["step", *held.columns], rows)
    if kept := content.get("of_an_earlier_run"):
        shown += f"\n\nFrom an earlier run than the rest: {', '.join(kept)}."
    return f"""## Memory and cost over the number of clips

Each step of the notebooks that walks over clips, alone in a process, on a few clips that repeat.
Memory is what has to be there; pages of mapped files, which the system may drop, come on top
(*with files*). Where nothing else is said the network is a narrow one: its activations are smaller,
and what grows with the number of clips shows as well. Grad-CAM is asked for 64 clips at most, as in
{{doc}}`notebooks/07_misclassification_gradcam`; a training takes its first steps only.

```{{figure}} {CURVES}
:name: fig-speed
:width: 100%
:alt: Two panels of lines over the number of clips. Left, processor time on logarithmic axes, \
straight rising lines, one per step. Right, memory in gigabytes, lines \
below or about a dotted one at the goal.

Processor time (left, both axes logarithmic) and memory (right) of each step over the number of
clips, narrow network. A slope of one on the left is cost in proportion; level lines on the right
are memory that does not grow.
```

{shown}"""


def _measured(record: Mapping[str, dict]) -> str:
    lines = []
    for script, content in record.items():
        found = content["environment"]
        lines.append(
            f"| {NAMES.get(script, script)} | {found['processor']} | {found['instructions']} | "
            f"{found['threads']} | {found['accelerator']} | {found['precision']} | "
            f"{found['torch']} | {found['load at the start']} |"
        )
    headings = ["benchmark", "processor", "instructions", "threads", "accelerator", "precision"]
    shown = _table("tab-machine", "The machine, script by script", [*headings, "torch", "load"], [])
    shown = shown.removesuffix("```") + "\n".join([*lines, "```"])
    return f"""## How it was measured

In a copy of [the repository]({{{{repository}}}}), `python -m benchmarks` does all of it again and
writes this page; `benchmarks/README.md` says what is compared, and why that is fair.

{shown}"""


def _number(value: float, how: str) -> str:
    return format(value, how) if np.isfinite(value) else ""


def write(record: Mapping[str, dict], book: Path) -> None:
    """Write the page and its picture into the book's folder."""
    (book / PAGE).write_text(text(record), encoding="utf-8")
    if "memory" in record:
        # text stays text, and the same record makes the same file
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "speed"}):
            curves(record["memory"]).savefig(book / CURVES, metadata={"Date": None})
