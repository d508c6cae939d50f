# %% [markdown]
# # Every clip once
#
# **Question: how good is the classifier when each clip of the set is a test clip once, and what does
# it confuse?**
#
# **What was found:** {glue:text}`every_found`.
#
# {doc}`06_evaluation` judges one fold, a fifth of the clips: an interval of many points, and with fifty
# classes eight clips of each. Here the networks of all folds answer for the clips that they never met,
# and their answers are put together: the confusion matrix, the ROC curves and the scores per class of
# the thesis (figures 4.32 to 4.34), with five times as many clips, and how the networks' training was
# chosen. Nothing here feeds back.
#
# Before it: {doc}`03_training`, {doc}`12_evidence`. Run time: half a minute; nothing is trained.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: its runs are read, too

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd

from esc_lib import evaluation
from esc_lib.figures import evaluation as figures
from esc_lib.study import Chapter, Metric
from esc_lib.training import comparisons, recipe_search, runs

chapter = Chapter("20_every_clip", profile, artifacts, epochs)
settings, data = chapter.settings, chapter.data
runs_of = "03_training", "12_evidence"  # are read here, as far as they are there
recorded = Path(start_from) if start_from else None
names = data.class_names

# %% [markdown]
# ## Who answers
#
# Of the networks below, those that answered for most clips. *Nothing held back*: all clips outside the
# test fold train, as behind published accuracies; epochs and recipe were fixed beforehand.

# %%
tables = {
    name: runs.judged_by(one, chapter.runs, recorded)
    for name, one in comparisons.networks(settings).items()
}
network = max(tables, key=lambda name: len(tables[name]))
judged = tables[network]
if not len(judged):
    raise ValueError("20_every_clip: no network was tested; run 12_evidence, or give start_from.")
pd.Series({name: len(table) for name, table in tables.items()}, name="clips").to_frame()

# %%
sources = data.clips.src_file.to_numpy()[judged.row]
right = (judged.predicted == judged.label).to_numpy(float)
folds = pd.DataFrame(
    {
        f"fold {fold}": evaluation.accuracy(right[of_fold], sources[of_fold])
        for fold in sorted(judged.fold.unique())
        for of_fold in [(judged.fold == fold).to_numpy()]
    }
    | {"all": evaluation.accuracy(right, sources)},
    index=["accuracy (%)", "low", "high"],
).T
folds["clips"] = [*judged.groupby("fold").size(), len(judged)]
folds.style.format(precision=1)

# %% [markdown]
# Intervals are over source recordings (95 %).
#
# ## How their training was chosen
#
# Seven levers were pulled in twelve runs of the narrow network, each in about half of them; three
# splits of the clips outside fold 1, no test clip read. What a lever adds to the accuracy on validation
# clips, by least squares over the runs of a split; a lever is kept where its interval lies above zero.
# The table is empty where the twelve runs are not recorded.

# %%
answers = recipe_search.judged_in(settings, data, recorded)
levers = recipe_search.gains(answers) if len(answers) else pd.DataFrame()
if len(levers):
    levers["kept"] = np.where(levers.low > 0, "yes", "no")
    levers = levers.rename(columns={"gain": "gain (points)"})
levers.style.format(precision=1)

# %% [markdown]
# ## What is confused
#
# Letters mark the pairs of classes confused most often, both ways counted together.

# %% mystnb={"figure": {"name": "fig-20-confusion", "caption": "Confusion matrix over all clips that were tested, share of the true class in percent. Letters: the most frequent pairs, listed below. Look off the diagonal: single bright cells are pairs of classes that sound alike, a bright column is a class that takes in what is not known. Answers thesis figure 4.32 with five times its clips."}, "image": {"alt": "A square heat map with true classes down and predicted classes across; the diagonal is brightest, a few cells off it carry letters."}}
predicted, labels = judged.predicted.to_numpy(), judged.label.to_numpy()
counts = evaluation.confusion(labels, predicted, len(names))
pairs = evaluation.confused_pairs(labels, predicted, sources, names)
figure = figures.confusion(counts, names, pairs)

# %%
pairs

# %% [markdown]
# ## Class by class

# %% mystnb={"figure": {"name": "fig-20-classes", "caption": "Precision, recall and F1 per class over all clips that were tested, sorted by F1; bars: 95 % interval of the recall over clips (Wilson). Answers thesis figure 4.34."}, "image": {"alt": "A dot plot with a row per class, three marks per row and a bar for the recall's interval, sorted from high to low F1."}}
scores = evaluation.per_class(labels, predicted, names)
figure = figures.per_class(scores)

# %% [markdown]
# ## ROC
#
# The thesis shows the micro-average and classes 13, 39, 30, 45 and 17; where a set lacks them, its
# first five stand in. Networks of different folds share these curves, so that a class whose
# probabilities differ from network to network has a smaller area than in each fold alone.

# %%
targets = data.clips.drop_duplicates("label").set_index("label").target.sort_index()
chosen = [label for label, target in targets.items() if target in (13, 39, 30, 45, 17)]
chosen = chosen if len(chosen) == 5 else list(targets.index[:5])
probabilities = judged[[f"p_{name}" for name in names]].to_numpy()
draws = evaluation.source_draws(sources, n_draws=200)
curves = {"micro-average": evaluation.roc(labels, probabilities, draws)}
curves |= {
    f"{targets[label]} {names[label].replace('_', ' ')}": evaluation.roc(
        labels, probabilities, draws, label
    )
    for label in chosen
}

# %% mystnb={"figure": {"name": "fig-20-roc", "caption": "ROC curves over all clips that were tested: micro-average with its 95 % band over source recordings, and five classes; whole range (left) and upper left corner (right). Answers thesis figure 4.33."}, "image": {"alt": "Two panels of step-shaped curves close to the upper left corner, one of them with a shaded band; the right panel enlarges that corner; a legend below lists areas with intervals."}}
figure = figures.roc(curves)

# %% tags=["hide-input"]
accuracy, low, high, _ = folds.loc["all"]
by_fold = folds.drop(index="all")["accuracy (%)"]
micro, best = curves["micro-average"], scores.sort_values("F1")
worst_pair = pairs.iloc[0] if len(pairs) else None
confused = (
    f"most often confused: {worst_pair['first']} and {worst_pair['second']}, "
    f"{worst_pair['wrong']} of {worst_pair['clips']} clips".replace("_", " ")
    if worst_pair is not None else "no clip is wrong"
)  # fmt: skip
found = (
    f"{network} is right on {accuracy:.1f} % ({low:.1f} to {high:.1f}) of {len(judged):,} clips of "
    f"{len(names)} classes, by fold from {by_fold.min():.1f} to {by_fold.max():.1f}; {confused}"
)
named = scores[scores.index.isin(["brushing_teeth", "mouse_click", "pig"])].precision
above = int((scores.precision > named.min()).sum()) if len(named) else 0
precise = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in named.items())
precise = f"{precise}; {above} classes above the lowest of them" if precise else "none is in the set"
agrees = "agrees" if round(micro.area, 2) == 0.99 else "differs"
hours = runs.hours_of(comparisons.networks(settings)[network], chapter.runs, recorded)

# %% tags=["hide-input"]
chapter.publish(
    {
        "every_found": found,
        "every_network": network,
        "every_accuracy": Metric(accuracy, "%", len(judged), (low, high)),
        "every_clips": len(judged),
        "every_classes": len(names),
        "every_folds": len(by_fold),
        "every_lowest": Metric(by_fold.min(), "%"),
        "every_highest": Metric(by_fold.max(), "%"),
        "every_micro": Metric(micro.area, "", len(judged), micro.interval),
        "every_micro_says": f"{agrees}: rounds to {micro.area:.2f}",
        "every_precise": precise,
        "every_hardest": best.index[0].replace("_", " "),
        "every_easiest": best.index[-1].replace("_", " "),
        "every_confused": confused,
        "every_hours": Metric(hours, "h"),
        "every_set": settings.dataset_label,
    },
    folds=folds, pairs=pairs, scores=scores, levers=levers,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - {glue:text}`every_network` of {glue:text}`every_folds:d` folds, {glue:text}`every_hours:.1f` hours of
#   training in all: {glue:text}`every_accuracy:.1f` % ({glue:text}`every_accuracy_low:.1f` to
#   {glue:text}`every_accuracy_high:.1f`) of {glue:text}`every_clips:,d` clips
#   ({glue:text}`every_set`). The thesis prints 88.5 % on validation clips whose recordings also train.
# - The pooled ROC area is {glue:text}`every_micro:.3f` ({glue:text}`every_micro_low:.3f` to
#   {glue:text}`every_micro_high:.3f`), the thesis's 0.99: with {glue:text}`every_classes:d` classes most
#   of the decisions in it are easy rejections, and it hardly tells networks apart.
# - Hardest class: {glue:text}`every_hardest`; easiest: {glue:text}`every_easiest`.
#   {glue:text}`every_confused`.
# - *Limit.* One seed; a fold's network saw four fifths of the clips, and the spread over folds is that of
#   their clips as much as of the networks.
#
# ## Exercises
#
# 1. Before you look at {numref}`fig-20-confusion`: which five pairs of classes would you confuse?
# 2. Which classes are never taken for others, yet take others in? Read it off precision and recall.
# 3. Give the micro-average its share of easy rejections: what is its area if only the five most likely
#    classes of each clip count?
