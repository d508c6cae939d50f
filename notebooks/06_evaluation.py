# %% [markdown]
# # Evaluation
#
# **Question: how good is the classifier on clips that it never learned from, what does it confuse,
# and can its probabilities be believed?**
#
# Weights against their initialisation, confusion matrix, ROC curves and scores per class (figures
# 4.31 to 4.34 of the thesis), with intervals; then calibration, and the source recordings that the
# errors come from. The predictions were made once, at the end of {doc}`03_training`; nothing here
# feeds back.
#
# Before it: {doc}`03_training`. Run time: seconds.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from esc_lib import evaluation
from esc_lib.data import major_category
from esc_lib.evaluation import calibration
from esc_lib.figures import evaluation as figures
from esc_lib.study import Chapter, Metric
from esc_lib.training import initial_model

chapter = Chapter("06_evaluation", profile, artifacts, needs=["seaborn"])
settings, data, model = chapter.settings, chapter.data, chapter.model
trained = chapter.read("03_training")
predictions = pd.read_csv(trained / "predictions.csv")
test, validation = predictions.part == "test", predictions.part == "validation"
excerpts = np.load(trained / "probabilities.npz")["excerpts"]
probabilities = excerpts[test]
labels = predictions.label[test].to_numpy()
predicted = predictions.by_excerpts[test].to_numpy()
whole_clip = predictions.predicted[test].to_numpy()
sources = data.clips.src_file.iloc[predictions.row[test]].to_numpy()

# %% [markdown]
# ## Weights
#
# Each layer's weights before training (same seed, drawn again) and after. The thesis takes bell
# shapes as a sign of good training. The start is uniform, so whatever is not a box is training's.

# %%
initial = initial_model(settings, len(data.class_names))
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
# One fold holds few clips, so the interval matters as much as the number. There are two: over clips
# (Wilson, 95 % {cite:p}`wilson1927probable`), as if each were independent of the others; and over
# source recordings, which are drawn again with all their clips {cite:p}`davison1997bootstrap`,
# since clips cut from one recording tend to be right or wrong together.

# %%
draws = evaluation.source_draws(sources, n_draws=1000)
right = labels == predicted
n_correct, n = int(right.sum()), len(labels)
low, high = evaluation.accuracy_interval(n_correct, n)
_, source_low, source_high = evaluation.mean_interval(right, draws)
n_recordings = len(np.unique(sources))
print(f"{n_correct} of {n} test clips right: {100 * n_correct / n:.1f} %")
print(f"95 % interval over clips {100 * low:.1f} to {100 * high:.1f} %")
print(f"over {n_recordings} recordings {100 * source_low:.1f} to {100 * source_high:.1f} %")
whole_accuracy = 100 * (labels == whole_clip).mean()
print(f"from the whole clip at once instead of excerpts: {whole_accuracy:.1f} %")

# %% [markdown]
# ## Confusions
#
# Letters mark the pairs of classes confused most often, both ways counted together. A pair whose
# wrong clips come from one recording says something about that recording; a pair that repeats over
# several says something about the classes.

# %% mystnb={"figure": {"name": "fig-06-confusion", "caption": "Confusion matrix on the test fold, share of the true class in percent (counts where there is room). Letters: the most frequent pairs, named beside it with the clips of the first class heard as the second + the second heard as the first, of the clips of both, and the number of recordings these wrong clips come from. Answers thesis figure 4.32."}, "image": {"alt": "A square heat map with true classes down and predicted classes across; the diagonal is brightest, a few cells off it carry letters that a list to the right explains."}}
counts = evaluation.confusion(labels, predicted, len(data.class_names))
pairs = evaluation.confused_pairs(labels, predicted, sources, data.class_names)
figure = figures.confusion(counts, data.class_names, pairs)

# %%
pairs

# %% [markdown]
# ## ROC
#
# Each class against the rest, and all such decisions pooled (micro-average). With many classes the
# pooled curve is dominated by easy rejections: an area near 1 is easier to get than it looks. The
# thesis shows classes 13, 39, 30, 45 and 17; where a set lacks them, its first five stand in.
# Intervals and band draw recordings again. An interval of no width (1 to 1) is not certainty: the
# bootstrap cannot draw an error that no clip has shown, and over few recordings it is too short.

# %%
targets = data.clips.drop_duplicates("label").set_index("label").target.sort_index()
chosen = [label for label, target in targets.items() if target in (13, 39, 30, 45, 17)]
chosen = chosen if len(chosen) == 5 else list(targets.index[:5])
recordings = {k: len(np.unique(sources[labels == k])) for k in targets.index}
curves = {"micro-average": evaluation.roc(labels, probabilities, draws)}
for label in chosen:
    name = f"{targets[label]} {data.class_names[label].replace('_', ' ')} ({recordings[label]})"
    curves[name] = evaluation.roc(labels, probabilities, draws, label)

# %% mystnb={"figure": {"name": "fig-06-roc", "caption": "ROC curves on the test fold: micro-average with its 95 % band over source recordings, and five classes, with the number of their recordings in brackets; whole range (left) and upper left corner (right). Answers thesis figure 4.33."}, "image": {"alt": "Two panels of step-shaped curves close to the upper left corner, one of them with a shaded band; the right panel enlarges that corner; a legend below lists areas with intervals."}}
figure = figures.roc(curves)

# %% [markdown]
# ## Class by class
#
# With so few test clips per class, one clip moves recall by many points. The bars say which classes
# can be told apart: those whose bars do not overlap, and few do. They take clips for independent;
# a class from few recordings (their number stands in brackets) deserves a wider one.

# %% mystnb={"figure": {"name": "fig-06-classes", "caption": "Precision, recall and F1 per class on the test fold, sorted by F1; bars: 95 % interval of the recall over clips (Wilson); in brackets the number of source recordings. Answers thesis figure 4.34."}, "image": {"alt": "A dot plot with a row per class, three marks per row and a wide bar for the recall's interval, sorted from low to high F1."}}
scores = evaluation.per_class(labels, predicted, data.class_names)
in_brackets = [f"{name} ({recordings[k]})" for k, name in enumerate(data.class_names)]
figure = figures.per_class(scores.set_axis(in_brackets))

# %% [markdown]
# By major category, with Wilson's interval over clips:

# %%
category = major_category(data.clips).iloc[predictions.row[test]].to_numpy()
by_category = (
    pd.DataFrame({"category": category, "right": labels == predicted})
    .groupby("category")
    .right.agg(["sum", "size"])
)
ends = [evaluation.accuracy_interval(*row) for row in by_category.to_numpy().tolist()]
by_category["accuracy (%)"] = 100 * by_category["sum"] / by_category["size"]
by_category[["low (%)", "high (%)"]] = 100 * np.array(ends)
by_category.rename(columns={"sum": "right", "size": "clips"}).style.format(precision=1)

# %% [markdown]
# ## Are the probabilities right?
#
# Of the clips that the network is 80 % sure of, four in five should be right; that is calibration.
# Clips are put in ten equally wide bins of confidence, the probability of the predicted class. The
# expected calibration error (ECE) is the mean gap between a bin's accuracy and its mean confidence,
# each bin weighted by its clips {cite:p}`naeini2015obtaining`.
#
# Temperature scaling {cite:p}`guo2017calibration` divides the logits by one number, fitted to the
# validation clips; no decision changes. The probabilities are means over excerpts, so their
# logarithms stand in for logits. Smoothed labels and mixed clips ask the network for less than
# certainty: a temperature below 1, which sharpens, would take that back.

# %%
temperature = calibration.fit_temperature(
    excerpts[validation], predictions.label[validation].to_numpy()
)
scaled = calibration.tempered(probabilities, temperature)
confidence = {"as trained": probabilities.max(axis=1)}
confidence[f"temperature {temperature:.2f}"] = scaled.max(axis=1)
tables = {title: calibration.reliability(sure, right) for title, sure in confidence.items()}

# %% mystnb={"figure": {"name": "fig-06-reliability", "caption": "Reliability on the test fold before (left) and after (right) temperature scaling: share of right decisions over confidence, with Wilson 95 % intervals over clips, and the number of clips per bin below. Dots above the diagonal: more often right than the network says. Orange bars, weighted by clips, make up the ECE."}, "image": {"alt": "Two scatter plots of accuracy over confidence against a diagonal, with long vertical intervals, each above a bar chart of clips per bin of confidence."}}
figure = figures.reliability(tables)

# %% [markdown]
# The ECE depends on its bins and is never 0 with few clips per bin; drawing clips again would add
# to that, so it gets a reference instead of an interval: the ECE of a perfectly calibrated
# classifier with the same confidences, and how often chance lets such a one do as badly (p)
# {cite:p}`broecker2007increasing`. This p takes clips for independent and is therefore too small.

# %%
errors = pd.DataFrame(index=list(confidence))
errors["ECE"] = [calibration.calibration_error(sure, right) for sure in confidence.values()]
reference = [calibration.error_if_calibrated(sure, right) for sure in confidence.values()]
errors[["if calibrated", "p"]] = reference
errors.style.format(precision=3)

# %% [markdown]
# Three means over clips need no bins, so that recordings can be drawn again (95 %; the temperature
# stays as it is): mean confidence minus accuracy, which is negative where the network is right more
# often than it says; the Brier score {cite:p}`brier1950verification`, the squared distance to the
# truth summed over classes; and the negative log-likelihood. The last two judge accuracy and
# calibration together, less is better.

# %%
calibrated = calibration.compare(labels, probabilities, scaled, draws)
calibrated.style.format(precision=3)

# %% [markdown]
# ## Which recordings fail?
#
# Clips of one source recording share its microphone, its place and its sound. If the network fails
# by recording, fewer independent errors were seen than the count of wrong clips suggests.

# %%
by_recording = evaluation.by_recording(labels, predicted, sources, data.class_names)
by_recording[by_recording.wrong > 0].head(15)

# %% [markdown]
# One number says whether errors gather: the pairs of wrong clips that share a recording. Against it,
# errors are shuffled among the clips of each class, which leaves hard classes hard
# {cite:p}`phipson2010permutation`. The share of all errors in the worst tenth of the recordings
# needs the same comparison: where errors are few, a few recordings hold them all by chance. A
# recording with one clip can show no gathering.

# %%
gathered = evaluation.error_clustering(~right, labels, sources)
single = int((by_recording.clips == 1).sum())
print(f"{gathered.pairs} pairs of errors share a recording, {gathered.pairs_by_chance:.1f} by chance")
print(f"p = {gathered.p:.3f}; {single} of {n_recordings} recordings gave one test clip")
print(f"the worst {gathered.worst} recordings hold {gathered.share:.0%} of the errors,")
print(f"by chance {gathered.share_by_chance:.0%}")

# %% [markdown]
# What so few clips can show: that the network is far from guessing, which classes fail often, and
# that a confusion repeats over recordings. What they cannot: the order of neighbouring classes, a
# difference of a few points, whether an ECE near that of a calibrated classifier is real, and
# whether errors gather where most recordings gave a single clip. A large p is no proof that they do
# not.

# %% tags=["hide-input"]
accuracy, chance = 100 * n_correct / n, 100 / len(data.class_names)
interval = (100 * low, 100 * high)
micro = curves["micro-average"]
nll = calibrated.loc["negative log-likelihood"]
sure, brier = calibrated.loc["confidence - accuracy"], calibrated.loc["Brier score"]
first, second = errors.iloc[0], errors.iloc[1]
top = pairs.iloc[0] if len(pairs) else {"first": "none", "second": "none", "wrong": 0}

# %% tags=["hide-input"]
metrics = {
    "test_accuracy": Metric(accuracy, "%", n, interval),
    "accuracy_by_source_low": Metric(100 * source_low, "%", n_recordings),
    "accuracy_by_source_high": Metric(100 * source_high, "%", n_recordings),
    "test_accuracy_whole_clip": Metric(float(whole_accuracy), "%", n),
    "test_clips": n,
    "test_recordings": n_recordings,
    "test_fold": settings.test_fold,
    "chance": Metric(chance, "%"),
    "micro_auc": Metric(micro.area, "", n, micro.interval),
    "macro_f1": Metric(float(scores.F1.mean()), "", n),
    "confused_first": top["first"].replace("_", " "),
    "confused_second": top["second"].replace("_", " "),
    "confused_clips": int(top["wrong"]),
}

# %% tags=["hide-input"]
metrics |= {
    "temperature": Metric(temperature, "", int(validation.sum())),
    "ece": Metric(first.ECE, "", n),
    "ece_if_calibrated": Metric(first["if calibrated"], "", n),
    "ece_p": first.p,
    "ece_scaled": Metric(second.ECE, "", n),
    "ece_scaled_if_calibrated": Metric(second["if calibrated"], "", n),
    "overconfidence": Metric(sure.before, "", n, (sure["before low"], sure["before high"])),
    "overconfidence_scaled": Metric(sure.after, "", n, (sure["after low"], sure["after high"])),
    "nll": Metric(nll.before, "", n, (nll["before low"], nll["before high"])),
    "nll_change": Metric(nll.change, "", n, (nll["change low"], nll["change high"])),
    "brier": Metric(brier.before, "", n, (brier["before low"], brier["before high"])),
    "brier_scaled": Metric(brier.after, "", n, (brier["after low"], brier["after high"])),
    "errors": n - n_correct,
    "error_pairs": Metric(gathered.pairs, "", n_recordings),
    "error_pairs_by_chance": Metric(gathered.pairs_by_chance, "", n_recordings),
    "error_pairs_p": gathered.p,
    "worst_recordings": gathered.worst,
    "worst_share": Metric(100 * gathered.share, "%", n_recordings),
    "worst_share_by_chance": Metric(100 * gathered.share_by_chance, "%", n_recordings),
}
chapter.publish(
    metrics, per_class=scores, per_category=by_category, confused_pairs=pairs,
    by_recording=by_recording, calibration=calibrated,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - On fold {glue:text}`test_fold`, {glue:text}`test_clips` clips from
#   {glue:text}`test_recordings` recordings that nothing was tuned on, the network gets
#   {glue:text}`test_accuracy:.1f` % right (95 % interval {glue:text}`test_accuracy_low:.1f` to
#   {glue:text}`test_accuracy_high:.1f` % over clips, {glue:text}`accuracy_by_source_low:.1f` to
#   {glue:text}`accuracy_by_source_high:.1f` % over recordings; chance {glue:text}`chance:.1f` %),
#   and {glue:text}`test_accuracy_whole_clip:.1f` % reading each clip at once.
# - The micro-averaged area is {glue:text}`micro_auc:.3f` ({glue:text}`micro_auc_low:.3f` to
#   {glue:text}`micro_auc_high:.3f`), the mean F1 {glue:text}`macro_f1:.3f`. The thesis prints an area
#   of 0.99 and, as its accuracy, 88.5 % on *validation* clips; it prints no test accuracy, so the two
#   are not the same measurement.
# - The ECE is {glue:text}`ece:.3f`, where a calibrated classifier would show
#   {glue:text}`ece_if_calibrated:.3f` (p = {glue:text}`ece_p:.3f`); confidence minus accuracy is
#   {glue:text}`overconfidence:.3f`. A temperature of {glue:text}`temperature:.2f`, fitted on
#   validation clips, makes them {glue:text}`ece_scaled:.3f` and
#   {glue:text}`overconfidence_scaled:.3f` and moves the negative log-likelihood from
#   {glue:text}`nll:.3f` by {glue:text}`nll_change:.3f` ({glue:text}`nll_change_low:.3f` to
#   {glue:text}`nll_change_high:.3f`; below zero is better, and an interval that holds zero leaves
#   it open).
# - {glue:text}`error_pairs` pairs of errors share a recording, {glue:text}`error_pairs_by_chance:.1f`
#   by chance (p = {glue:text}`error_pairs_p:.3f`); the worst {glue:text}`worst_recordings` recordings
#   hold {glue:text}`worst_share:.0f` % of {glue:text}`errors` errors, by chance
#   {glue:text}`worst_share_by_chance:.0f` %. Most often confused: {glue:text}`confused_first` and
#   {glue:text}`confused_second`, in {glue:text}`confused_clips` clips.
# - One fold and one seed: the intervals cover the choice of clips or recordings, not that of fold or
#   seed; {doc}`12_evidence` has all folds.
#
# ## Exercises
#
# 1. How many more clips must be right before the new accuracy leaves the interval?
# 2. Compute the macro-averaged ROC area. Why does it differ from the micro-average?
# 3. Compare the lettered pairs with your guess from {doc}`01_data`.
# 4. Fit the temperature on the test clips. How much better does the ECE get, and why does that not
#    count?
