# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,accelerator,colab,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("esc_lib") is None:  # a fresh Colab runtime: torch and numpy are there
    source = "git+https://github.com/esc-study/hidden-spectra"
    missing = ["torchinfo", "captum", "lightning-fabric", "lightning-utilities"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", source, *missing]
    subprocess.run(pip, check=True)

# %% [markdown]
# # Evaluation
#
# **Question: how good is the classifier on clips it has never influenced, and what does it
# confuse?**
#
# Weights against their initialisation, confusion matrix, ROC curves and scores per class (figures
# 4.31 to 4.34 of the thesis), with intervals. The predictions were made once, at the end of
# {doc}`03_training`; nothing here feeds back.
#
# Before it: {doc}`03_training`. Run time: seconds.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from esc_lib import checkpoint, evaluation, report, training
from esc_lib.artifacts import find, open_data, own, root
from esc_lib.config import get_profile
from esc_lib.datasets import esc50
from esc_lib.figures import evaluation as figures
from esc_lib.figures import style
from esc_lib.report import Metric

style.apply()
settings = get_profile(profile)
data = open_data(find(root(profile, artifacts), "01_data"))
trained = find(root(profile, artifacts), "03_training")
model = checkpoint.load(trained / "model.safetensors", settings, data.class_names)
predictions = pd.read_csv(trained / "predictions.csv")
test = predictions.part == "test"
probabilities = np.load(trained / "probabilities.npz")["excerpts"][test]
labels = predictions.label[test].to_numpy()
predicted = predictions.by_excerpts[test].to_numpy()
whole_clip = predictions.predicted[test].to_numpy()
folder = own(root(profile, artifacts), "06_evaluation")

# %% [markdown]
# ## Weights
#
# Each layer's weights before training (same seed, drawn again) and after. The thesis takes bell
# shapes as a sign of good training; the uniform start shows how much of that shape training made.

# %%
initial = training.initial_model(settings, len(data.class_names))
weights = {
    when: {
        name.removesuffix(".weight"): value.detach().cpu().numpy().ravel()
        for name, value in net.named_parameters()
        if name.endswith("weight") and value.dim() > 1 and not name.startswith("se")
    }
    for when, net in (("before", initial), ("after", model))
}

# %% mystnb={"figure": {"name": "fig-06-weights", "caption": "Weight distributions of every convolution and linear layer before (outline) and after (filled) training. Answers thesis figure 4.31."}, "image": {"alt": "Twelve histograms. Outlines are flat boxes, the uniform start; filled shapes show what training made of them."}}
figure = figures.weights(weights["after"], weights["before"])

# %%
change = {
    name: np.linalg.norm(after - weights["before"][name]) / np.linalg.norm(weights["before"][name])
    for name, after in weights["after"].items()
}
pd.DataFrame({"relative change": change}).style.format("{:.2f}")

# %% [markdown]
# ## Accuracy
#
# One fold holds few clips, so the interval matters as much as the number (Wilson, 95 %
# {cite:p}`wilson1927probable`).

# %%
n_correct, n = int((labels == predicted).sum()), len(labels)
low, high = evaluation.accuracy_interval(n_correct, n)
print(f"{n_correct} of {n} test clips right: {100 * n_correct / n:.1f} %")
print(f"95 % interval {100 * low:.1f} to {100 * high:.1f} %")
whole_accuracy = 100 * (labels == whole_clip).mean()
print(f"from the whole clip at once instead of excerpts: {whole_accuracy:.1f} %")

# %% mystnb={"figure": {"name": "fig-06-confusion", "caption": "Confusion matrix on the test fold, share of the true class in percent (counts where there is room). Answers thesis figure 4.32."}, "image": {"alt": "A square heat map with true classes down and predicted classes across; the diagonal is brightest, with a few bright cells off it."}}
counts = evaluation.confusion(labels, predicted, len(data.class_names))
figure = figures.confusion(counts, data.class_names)

# %%
evaluation.frequent_confusions(counts, data.class_names).style.hide()

# %% [markdown]
# ## ROC
#
# Each class against the rest, and all such decisions pooled (micro-average). With many classes the
# pooled curve is dominated by easy rejections: an area near 1 is easier to get than it looks. The
# thesis shows classes 13, 39, 30, 45 and 17; where a set lacks them, its first five stand in.

# %%
targets = data.clips.drop_duplicates("label").set_index("label").target.sort_index()
chosen = [label for label, target in targets.items() if target in (13, 39, 30, 45, 17)]
chosen = chosen if len(chosen) == 5 else list(targets.index[:5])
curves = {"micro-average": evaluation.micro_roc(labels, probabilities)}
for label in chosen:
    name = f"{targets[label]} {data.class_names[label].replace('_', ' ')}"
    curves[name] = evaluation.class_roc(labels, probabilities, label)

# %% mystnb={"figure": {"name": "fig-06-roc", "caption": "ROC curves on the test fold: micro-average and five classes; whole range (left) and upper left corner (right). Answers thesis figure 4.33."}, "image": {"alt": "Two panels of step-shaped curves close to the upper left corner; the right panel enlarges that corner and lists the areas."}}
figure = figures.roc(curves)

# %% [markdown]
# ## Class by class
#
# With so few test clips per class, one clip moves recall by many points: read the order of classes,
# not the decimals.

# %% mystnb={"figure": {"name": "fig-06-classes", "caption": "Precision, recall and F1 per class on the test fold, sorted by F1; a grey line joins precision and recall. Answers thesis figure 4.34."}, "image": {"alt": "A dot plot with a row per class and three marks per row, sorted from low to high F1."}}
scores = evaluation.per_class(labels, predicted, data.class_names)
figure = figures.per_class(scores)

# %%
category = esc50.major_category(data.clips).iloc[predictions.row[test]].to_numpy()
by_category = (
    pd.DataFrame({"category": category, "right": labels == predicted})
    .groupby("category")
    .right.agg(["sum", "size"])
)
intervals = [evaluation.accuracy_interval(*row) for row in by_category.to_numpy().tolist()]
by_category["accuracy (%)"] = 100 * by_category["sum"] / by_category["size"]
by_category[["low (%)", "high (%)"]] = 100 * np.array(intervals)
by_category.rename(columns={"sum": "right", "size": "clips"}).style.format(precision=1)

# %% tags=["hide-input"]
scores.to_csv(folder / "per_class.csv")
by_category.to_csv(folder / "per_category.csv")
accuracy, chance = 100 * n_correct / n, 100 / len(data.class_names)
interval = (100 * low, 100 * high)
report.publish(
    folder,
    {
        "test_accuracy": Metric(accuracy, "%", n, interval),
        "test_accuracy_low": Metric(interval[0], "%", n),
        "test_accuracy_high": Metric(interval[1], "%", n),
        "test_accuracy_whole_clip": Metric(float(whole_accuracy), "%", n),
        "test_clips": Metric(n),
        "test_fold": Metric(settings.test_fold),
        "chance": Metric(chance, "%"),
        "micro_auc": Metric(curves["micro-average"][2], "", n),
        "macro_f1": Metric(float(scores.F1.mean()), "", n),
    },
)

# %% [markdown]
# ## What we learned
#
# - On fold {glue:text}`test_fold`, {glue:text}`test_clips` clips that nothing was tuned on, the
#   network gets {glue:text}`test_accuracy:.1f` % right (95 % interval
#   {glue:text}`test_accuracy_low:.1f` to {glue:text}`test_accuracy_high:.1f` %, chance
#   {glue:text}`chance:.1f` %).
# - The micro-averaged area is {glue:text}`micro_auc:.3f`, the mean F1 {glue:text}`macro_f1:.3f`. The
#   thesis prints an area of 0.99 and, as its accuracy, 88.5 % on *validation* clips; it prints no
#   test accuracy, so the two are not the same measurement.
# - Reading the whole clip at once instead of averaging over excerpts gives
#   {glue:text}`test_accuracy_whole_clip:.1f` %.
# - One fold and one seed: the interval covers the choice of clips, not that of fold or seed;
#   {doc}`12_evidence` has all folds.
#
# ## Exercises
#
# 1. How many more clips must be right before the new accuracy leaves the interval?
# 2. Compute the macro-averaged ROC area. Why does it differ from the micro-average?
# 3. Compare the frequent confusions with your guess from {doc}`01_data`.
