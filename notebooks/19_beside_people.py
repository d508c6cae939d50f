# %% [markdown]
# # Beside people
#
# **Question: do people and network err on the same clips, and alike?**
#
# **What was found:** {glue:text}`people_found`.
#
# The accuracy of people is quoted beside that of networks as one number. The answers behind it say
# more: the authors of ESC-50 asked people about every clip {cite:p}`piczak2015esc`, and their table
# (`meta/esc50-human.xlsx`) comes with the data. A network that fails where people fail has found what
# is hard in the sounds; one that fails elsewhere has found something in the set.
#
# Before it: {doc}`03_training`. Run time: seconds. Without answers of people (`LISTENERS`) a forest on
# log-mel statistics takes their place: then the page shows how it is read, and nothing about people.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: its runs are read, too
listeners = ""  # esc50-human.xlsx, or a csv with filename, category, answer; empty: a forest
n_heard = 3  # clips to listen to, of each kind

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd

from esc_lib.data import read_answers
from esc_lib.evaluation import accuracy, confusion, paired_difference
from esc_lib.evaluation import listeners as beside
from esc_lib.explain import second_judges
from esc_lib.figures import evaluation as figures
from esc_lib.figures.html import player
from esc_lib.study import Chapter, Metric
from esc_lib.training import comparisons, runs

chapter = Chapter("19_beside_people", profile, artifacts, epochs)
settings, data = chapter.settings, chapter.data
runs_of = "03_training", "12_evidence"  # are read here, as far as they are there
recorded = Path(start_from) if start_from else None
names = [name.replace("_", " ") for name in data.class_names]

# %% [markdown]
# ## Who is compared
#
# Test clips of all folds that were run, each judged by a network that never met its recording; of
# the networks below, the one that judged most clips.

# %%
candidates = comparisons.networks(settings)
tables = {name: runs.judged_by(one, chapter.runs, recorded) for name, one in candidates.items()}
name = max(tables, key=lambda each: len(tables[each]))
if not len(tables[name]):
    raise ValueError("19_beside_people: no network was tested; run 03_training, or give start_from.")
network = tables[name].rename(columns={"predicted": "answer"})
network["src_file"] = data.clips.src_file.to_numpy()[network.row]
{each: len(table) for each, table in tables.items()}


# %% tags=["hide-input", "remove-stderr"]
def forest():
    """Return the answers of a forest to the test clips, in the place of people's."""
    judge = second_judges.forest(data, chapter.front_end)
    rows = data.split.test
    answer = judge(*data.batch(rows)).argmax(dim=1).numpy()
    source = data.clips.src_file.to_numpy()[rows]
    return pd.DataFrame(
        {"row": rows, "label": data.labels[rows].numpy(), "src_file": source, "answer": answer}
    )


people = read_answers(listeners, data.clips) if listeners else forest()
people = people[people.row.isin(network.row)]
network = network[network.row.isin(people.row)]
who = "people" if listeners else "a forest"

# %% [markdown]
# ## In which classes is who ahead?

# %% mystnb={"figure": {"name": "fig-19-classes", "caption": "Accuracy of people and of the network in each class, best heard by people on top, with 95 % intervals over source recordings."}, "image": {"alt": "A row per class with two marks and bars, one for people and one for the network."}}
by_class = beside.by_class(people, network, names)
figure = figures.two_in_classes(by_class, who, "network")

# %%
ahead = {
    "network ahead": by_class.index[by_class.low > 0],
    f"{who} ahead": by_class.index[by_class.high < 0],
}
ahead_in = {each: [", ".join(some) or "in no class"] for each, some in ahead.items()}
pd.DataFrame(ahead_in).style.hide()

# %% [markdown]
# ## Is what is hard for one hard for the other?
#
# A clip's difficulty is the share of wrong answers that people gave to it. How well does it tell the
# clips that the network gets wrong: the area under the ROC curve, 0.5 to know nothing; pooled, where
# hard classes alone make an area, and within classes, where only clips of one class are compared.

# %%
right = (people.answer == people.label).groupby(people.row).agg(["mean", "size"])
clips = network.set_index("row").join(right)
wrong = (clips.answer != clips.label).to_numpy(float)
difficulty, sources = 1 - clips["mean"].to_numpy(), clips.src_file.to_numpy()
areas = pd.DataFrame(
    {
        "pooled": beside.error_auc(difficulty, wrong, sources),
        "within classes": beside.error_auc(difficulty, wrong, sources, clips.label.to_numpy()),
    },
    index=["area", "low", "high"],
).T
areas.style.format(precision=2)

# %% [markdown]
# ## Do they confuse the same classes?
#
# Both confusion matrices off their diagonals, rows as shares; the correlation, and how often one at
# least as high comes by chance when classes are dealt anew in one of them {cite:p}`mantel1967detection`.

# %%
n_classes = len(names)
inside = people[people.answer >= 0]
matrices = [
    confusion(each.label.to_numpy(), each.answer.to_numpy(), n_classes)
    for each in (inside, network)
]
correlation, p = beside.mantel(*matrices)
print(f"correlation {correlation:.2f}, p = {p:.4f}")

# %% [markdown]
# ## Listen
#
# Clips that were named rightly by all who heard them and not by the network, and the other way round.
# With people, only clips that at least two heard.

# %%
known = clips[clips["size"] >= (2 if listeners else 1)]
failed = (known.answer != known.label).to_numpy()
kinds = {
    "missed by the network alone": known[failed & (known["mean"] == 1)],
    f"missed by {who} alone": known[~failed & (known["mean"] == 0)],
}
for kind, of_kind in kinds.items():
    print(f"{kind}: {len(of_kind)} of {len(known)} clips")

# %%
columns = []
for of_kind in kinds.values():
    shown = of_kind.head(n_heard)
    lines = [f"{names[one.label]}, network: {names[one.answer]}" for one in shown.itertuples()]
    columns.append(player.of_clips(data, shown.index.to_numpy(), chapter.front_end, lines))
least = min(map(len, columns))
rows = list(zip(*(column[:least] for column in columns), strict=True))
player.pictured(
    rows, settings.front_end, settings.licence, limits=(-2, 3), unit="deviations",
    headings=list(kinds),
) if rows else "no clip of one of the two kinds"  # fmt: skip

# %% tags=["hide-input"]
of_people = accuracy((people.answer == people.label).to_numpy(float), people.src_file.to_numpy())
of_network = accuracy(1 - wrong, sources)
gap = paired_difference(1 - wrong, 1 - difficulty, sources)
within = areas.loc["within classes"]
alike = "know nothing of" if within.low <= 0.5 <= within.high else "tell of"
found = (
    f"on {len(clips):,} clips {name} is right in {of_network[0]:.1f} % and {who} in "
    f"{of_people[0]:.1f} % of answers; within a class, errors of {who} {alike} those of the network "
    f"(area {within.area:.2f}, {within.low:.2f} to {within.high:.2f}), and confusions off the "
    f"diagonal correlate at {correlation:.2f} (p = {p:.4f})"
)

# %% tags=["hide-input"]
chapter.publish(
    {
        "people_found": found,
        "people_who": who,
        "people_network": name,
        "people_answers": len(people),
        "people_clips": len(clips),
        "people_accuracy": Metric(of_people[0], "%", len(people), of_people[1:]),
        "people_network_accuracy": Metric(of_network[0], "%", len(clips), of_network[1:]),
        "people_gap": Metric(gap[0], "points", len(clips), gap[1:]),
        "people_pooled": Metric(areas.area["pooled"], "", len(clips), tuple(areas.loc["pooled"][1:])),
        "people_within": Metric(within.area, "", len(clips), (within.low, within.high)),
        "people_mantel": Metric(correlation, "", len(names)),
        "people_mantel_p": p,
        "people_classes_network": len(ahead["network ahead"]),
        "people_classes_people": len(ahead[f"{who} ahead"]),
        "people_missed_by_network": len(kinds["missed by the network alone"]),
        "people_missed_by_people": len(kinds[f"missed by {who} alone"]),
    },
    by_class=by_class, areas=areas,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - Compared: {glue:text}`people_network` and {glue:text}`people_who`, {glue:text}`people_answers:d`
#   answers to {glue:text}`people_clips:d` clips. The network is {glue:text}`people_gap:.1f` points
#   ahead ({glue:text}`people_gap_low:.1f` to {glue:text}`people_gap_high:.1f`, paired by clip).
# - Beyond chance the network is ahead in {glue:text}`people_classes_network:d` classes, behind in
#   {glue:text}`people_classes_people:d`.
# - What is hard for one tells what is hard for the other with an area of
#   {glue:text}`people_pooled:.2f` over all clips, {glue:text}`people_within:.2f` within classes
#   ({glue:text}`people_within_low:.2f` to {glue:text}`people_within_high:.2f`): only the second says that
#   it is the *clip* that is hard.
# - *Limits.* People heard some clips once or twice, so that a clip's difficulty is coarse; they
#   chose among fifty classes, a network trained on ten does not.
#
# ## Exercises
#
# 1. Listen to the clips that the network alone missed. Was it the sound, or the recording?
# 2. Predict in which classes people fail, then read {numref}`fig-19-classes`.
# 3. Compare two networks instead: let the narrow one take the place of people.
