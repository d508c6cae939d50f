# %% [markdown]
# # What went wrong, and where the network looked
#
# **Question: which clips are misclassified, and do Grad-CAM or similar training clips show why?**
#
# Misclassified test clips with their spectrograms and Grad-CAM maps (figure 4.35 of the thesis);
# beside each, to hear, the training clips that lie nearest to it inside the network.
#
# Before it: {doc}`03_training`. Run time: seconds; with the full network on a CPU, minutes.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_shown = 4  # misclassified clips shown
layers = ["conv_block3", "conv_block5"]  # where Grad-CAM looks, from the input on

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib.evaluation import mistakes
from esc_lib.explain import gradcam, map_correlations
from esc_lib.figures import misclassification as figures
from esc_lib.figures.html import player
from esc_lib.layers import embeddings
from esc_lib.study import Chapter, Metric

chapter = Chapter("07_misclassification_gradcam", profile, artifacts, needs=["captum"])
settings, data, model = chapter.settings, chapter.data, chapter.model
device, front_end = chapter.device, chapter.front_end
trained = chapter.read("03_training")
predictions = pd.read_csv(trained / "predictions.csv")
probabilities = np.load(trained / "probabilities.npz")["whole"]
in_test = (predictions.part == "test").to_numpy()
test = mistakes.described(predictions[in_test], probabilities[in_test], data.class_names)
wrong, right = test[test.wrong], test[~test.wrong]

# %% [markdown]
# ## How sure is it when it is wrong?

# %% mystnb={"figure": {"name": "fig-07-confidence", "caption": "Probability of the predicted class on test clips, for right and wrong decisions. Wrong decisions at high probability are those a threshold cannot catch."}, "image": {"alt": "Two overlaid histograms of confidence between 0 and 1, right decisions piled up at high values and hatched wrong decisions spread over lower ones."}}
figure = figures.confidence(right.confidence.to_numpy(), wrong.confidence.to_numpy())

# %% [markdown]
# ## The clips
#
# The thesis's two examples are sneezing heard as pouring water and a hen heard as a dog, both at
# probabilities near 0.1. Here: {glue:text}`thesis_pairs`. What occurs of them comes first; then the
# errors made with most confidence (the table lists at most fifteen). Should nothing be wrong, the
# least certain decisions stand in, with the second most probable class for the true one.

# %%
thesis_pairs = [("sneezing", "pouring_water"), ("hen", "dog")]
judged = mistakes.ranked(test, thesis_pairs).head(64)
shown = judged.head(n_shown)
other = "true" if len(wrong) else "second"
table = judged[["filename", "category", "predicted_category", "confidence", "probability_other"]]
table = table.set_axis(["clip", "class", "heard as", "p(predicted)", f"p({other})"], axis=1)
table.head(15).style.format(precision=2).hide()

# %% [markdown]
# ## Grad-CAM
#
# A layer's maps, weighted by the mean gradient of the class score and rectified: where the layer
# speaks *for* a class {cite:p}`selvaraju2017gradcam`. The parameter `layers` chooses the layers; each
# is drawn for the predicted and for the true class. Deep layers have few positions: block 5 of this
# network has a thirty-second of the bands and of the frames, so its maps are smooth by
# interpolation, not by evidence. Each map is divided by its own maximum: colours compare within a
# panel, not between panels. A panel without colour is a map of zeros: nothing there speaks for the
# class.

# %%
inputs = front_end.features(*data.batch(judged.row.to_numpy(), device))
targets = {"predicted": judged.predicted, other: judged.other}
cams = {
    (layer, of): gradcam(model, inputs, torch.tensor(classes.to_numpy()), layer).cpu().numpy()
    for layer in layers
    for of, classes in targets.items()
}
titles = [
    f"{clip.category} heard as {clip.predicted_category}\n"
    f"p(predicted) {clip.confidence:.2f}, p({other}) {clip.probability_other:.2f}".replace("_", " ")
    for clip in shown.itertuples()
]

# %% mystnb={"figure": {"name": "fig-07-errors", "caption": "Misclassified test clips: input spectrogram with both probabilities (left), and over the spectrogram in grey Grad-CAM at the chosen layers, for the predicted and for the true class. Answers thesis figure 4.35."}, "image": {"alt": "A row per clip: a log-mel spectrogram, and copies of it in grey under coloured Grad-CAM maps, finer patches for the earlier layer and smooth blobs for the later one."}}
panels = {f"{layer}, {of} class": maps[:n_shown] for (layer, of), maps in cams.items()}
panels = {name.replace("conv_block", "block "): maps for name, maps in panels.items()}
figure = figures.errors(inputs[:n_shown, 0].cpu().numpy(), panels, titles, settings.front_end)

# %% [markdown]
# ## Do the maps of the two classes differ?
#
# If Grad-CAM showed why one class won, its maps for the predicted and for the true class should lie
# in different places. Their correlation over the misclassified test clips, at most 64 of them;
# clips where one of the two maps is zero everywhere have none:

# %%
correlation = {
    layer: map_correlations(cams[layer, "predicted"], cams[layer, other]) for layer in layers
}
similarity = pd.DataFrame(
    {
        "median": {layer: np.nanmedian(values) for layer, values in correlation.items()},
        "lowest": {layer: np.nanmin(values) for layer, values in correlation.items()},
        "clips": {layer: np.isfinite(values).sum() for layer, values in correlation.items()},
    }
)
similarity.style.format("{:.2f}", subset=["median", "lowest"])

# %% [markdown]
# ## The nearest training clips
#
# Another way to explain a decision is by example: which training clips does the network take for
# most similar {cite:p}`papernot2018deep`? Near is a high cosine in the last hidden layer, fc1 after
# its ReLU, which the linear classifier reads. A clip heard as another class should then have a
# training clip of that class closer than any of its own.

# %% tags=["remove-stderr"]
train, classes = data.split.train, data.clips.label.to_numpy()
bank = embeddings.embed(model, front_end, data, train)["fc1"]
queries = embeddings.embed(model, front_end, data, test.row.to_numpy())["fc1"]
explained = embeddings.examples(test, queries, bank, classes[train])

# %% [markdown]
# Listen: the clip, its nearest training clip of the class that was predicted, and its nearest
# training clip of the true class. Would you have done better?

# %% tags=["hide-input"]
lines = shown.category + " heard as " + shown.predicted_category
columns = [player.of_clips(data, shown.row.to_numpy(), front_end, lines)]
near = explained.loc[shown.index]
for of in ("predicted", "other"):
    lines = near[f"{of}_category"] + near[f"cosine_{of}"].map(", cosine {:.2f}".format)
    columns.append(player.of_clips(data, train[near[f"nearest_{of}"]], front_end, lines))
headings = ["the clip", "nearest of the predicted class", f"nearest of the {other} class"]
player.pictured(
    list(zip(*columns, strict=True)), settings.front_end, settings.licence,
    limits=(-2, 3), unit="deviations", headings=headings,
)  # fmt: skip

# %% [markdown]
# How often is the nearest training clip of all one of the predicted class, how often one of the true
# class? Intervals are Wilson's over clips (95 %), as if each were independent of the others; clips
# cut from one recording are not, and often go wrong together.

# %%
agreement = embeddings.agreement(explained)
agreement.style.format(precision=1, na_rep="none")

# %% mystnb={"figure": {"name": "fig-07-nearest", "caption": "How far each test clip lies from the training clips of two classes, as 1 - cosine in the hidden layer. Below the diagonal the nearest clip of the predicted class is the nearer one: there the example fits the decision."}, "image": {"alt": "A scatter plot on logarithmic axes with a diagonal: round dots of right decisions stand mostly far below it, crosses of wrong decisions near it on both sides."}}
figure = figures.nearest(
    explained.cosine_predicted.to_numpy(),
    explained.cosine_other.to_numpy(),
    explained.wrong.to_numpy(),
)

# %% [markdown]
# Agreement is no surprise: a linear layer reads this very vector, so that vectors which lie together
# get the same answer whatever the sounds have in common. What an example adds is the sound: whether
# *you* hear what the two share. A wrong decision whose nearest clip is of the true class is the
# exception that tells more: there the boundary, not the similarity, decided.

# %% tags=["hide-input"]
first, last = layers[0], layers[-1]
metrics = {
    "misclassified": len(wrong),
    "wrong_recordings": Metric(data.clips.src_file[wrong.row].nunique(), "", len(wrong)),
    "test_clips": len(test),
    "thesis_pairs": mistakes.occurrence(test, thesis_pairs, data.class_names),
    "median_confidence_right": Metric(float(right.confidence.median()), "", len(right)),
    "first_layer": first.replace("conv_block", "block "),
    "last_layer": last.replace("conv_block", "block "),
    "map_correlation_first": Metric(similarity["median"][first], "", similarity.clips[first]),
    "map_correlation": Metric(similarity["median"][last], "", similarity.clips[last]),
}

# %% tags=["hide-input"]
of_predicted, of_true = agreement["of the predicted class"], agreement["of the true class"]
metrics |= {
    "nearest_predicted_wrong": Metric(of_predicted["wrong"], "", len(wrong)),
    "nearest_predicted_wrong_low": Metric(agreement["low (%)"]["wrong"], "%", len(wrong)),
    "nearest_predicted_wrong_high": Metric(agreement["high (%)"]["wrong"], "%", len(wrong)),
    "nearest_true_wrong": Metric(of_true["wrong"], "", len(wrong)),
    "right": len(right),
    "nearest_predicted_right": Metric(of_predicted["right"], "", len(right)),
}
chapter.publish(metrics, misclassified=wrong)

# %% [markdown]
# ## What we learned
#
# - {glue:text}`misclassified` of {glue:text}`test_clips` test clips are misclassified, cut from
#   {glue:text}`wrong_recordings` source recordings; the median probability of right decisions is
#   {glue:text}`median_confidence_right:.2f`.
# - The maps for the predicted and for the true class have a median correlation of
#   {glue:text}`map_correlation_first:.2f` at {glue:text}`first_layer` and
#   {glue:text}`map_correlation:.2f` at {glue:text}`last_layer`. The closer to 1, the less such a map
#   says about *why one class rather than the other*; below 0 they point to different places.
# - Of the {glue:text}`misclassified` wrong decisions {glue:text}`nearest_predicted_wrong` have their
#   nearest training clip in the predicted class (95 % interval of the share
#   {glue:text}`nearest_predicted_wrong_low:.0f` to {glue:text}`nearest_predicted_wrong_high:.0f` %)
#   and {glue:text}`nearest_true_wrong` in the true one; of the {glue:text}`right` right decisions
#   {glue:text}`nearest_predicted_right`. An example can be heard, but one that follows the decision
#   does not explain it.
# - A heat map cannot be heard, and looking plausible is no evidence. Whether what a map marks
#   carries the decision has to be measured by removing it.
#
# ## Exercises
#
# 1. For each clip, predict from sound and spectrogram which class will win, then read the title.
# 2. Set `layers` to blocks 2 and 4. Where do the maps of the two classes part?
# 3. Randomise the last linear layer and draw the maps again. Should they change? Do they? And the
#    nearest training clips?
