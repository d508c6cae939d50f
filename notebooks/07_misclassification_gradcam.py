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
# # What went wrong, and where the network looked
#
# **Question: which clips are misclassified, and does Grad-CAM show why?**
#
# Misclassified test clips with their spectrograms, Grad-CAM maps at two layers and players (figure
# 4.35 of the thesis).
#
# Before it: {doc}`03_training`. Run time: seconds.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_shown = 6  # misclassified clips shown

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib import checkpoint, report
from esc_lib.artifacts import find, open_data, own, root
from esc_lib.config import get_profile
from esc_lib.explain.gradcam import gradcam
from esc_lib.features import LogMel
from esc_lib.figures import misclassification as figures
from esc_lib.figures import style
from esc_lib.hardware import best_device
from esc_lib.report import Metric

style.apply()
settings = get_profile(profile)
data = open_data(find(root(profile, artifacts), "01_data"))
trained = find(root(profile, artifacts), "03_training")
model = checkpoint.load(trained / "model.safetensors", settings, data.class_names)
device = best_device()
front_end = LogMel(settings.front_end).to(device)
predictions = pd.read_csv(trained / "predictions.csv")
probabilities = np.load(trained / "probabilities.npz")["whole"]
test = predictions[predictions.part == "test"]
folder = own(root(profile, artifacts), "07_misclassification_gradcam")

# %% [markdown]
# ## How sure is it when it is wrong?

# %% mystnb={"figure": {"name": "fig-07-confidence", "caption": "Probability of the predicted class on test clips, for right and wrong decisions. Wrong decisions at high probability are those a threshold cannot catch."}, "image": {"alt": "Two overlaid histograms of confidence between 0 and 1, right decisions piled up near 1 and hatched wrong decisions spread over lower values."}}
wrong = test[test.label != test.predicted]
right = test[test.label == test.predicted]
figure = figures.confidence(right.confidence.to_numpy(), wrong.confidence.to_numpy())

# %% [markdown]
# ## The clips
#
# The thesis's two examples are sneezing heard as pouring water and a hen heard as a dog, both at
# probabilities near 0.1. If those pairs occur they come first; then the errors made with most
# confidence (the table lists at most fifteen). Should nothing be wrong, the least certain decisions stand in.

# %%
thesis_pairs = [("sneezing", "pouring_water"), ("hen", "dog")]
named = wrong.assign(
    predicted_category=[data.class_names[p] for p in wrong.predicted],
    probability_true=probabilities[wrong.index, wrong.label],
)
pair = list(zip(named.category, named.predicted_category, strict=True))
named["first"] = [p in thesis_pairs for p in pair]
shown = named.sort_values(["first", "confidence"], ascending=False).head(n_shown)
if shown.empty:
    shown = test.sort_values("confidence").head(n_shown)
    shown = shown.assign(predicted_category=shown.category, probability_true=shown.confidence)
columns = ["filename", "category", "predicted_category", "confidence", "probability_true"]
surest = named[columns].sort_values("confidence", ascending=False).head(15)
surest.style.format(precision=2).hide()

# %% [markdown]
# ## Grad-CAM
#
# A layer's maps, weighted by the mean gradient of the class score and rectified: where the layer
# speaks *for* a class {cite:p}`selvaraju2017gradcam`. Block 5 has few positions, so its maps are
# smooth by interpolation, not by evidence; block 3 is finer. Each is drawn for the predicted class,
# block 5 for the true class as well, and each map is divided by its own maximum: colours compare
# within a panel, not between panels.

# %%
rows = shown.row.to_numpy()
inputs = front_end.features(*data.batch(rows, device))
guess, truth = torch.tensor(shown.predicted.to_numpy()), torch.tensor(shown.label.to_numpy())
cams = {
    "block 5, predicted class": gradcam(model, "conv_block5", inputs, guess),
    "block 5, true class": gradcam(model, "conv_block5", inputs, truth),
    "block 3, predicted class": gradcam(model, "conv_block3", inputs, guess),
}
cams = {name: maps.cpu().numpy() for name, maps in cams.items()}
titles = [
    f"{clip.category} heard as {clip.predicted_category}\n"
    f"p(predicted) {clip.confidence:.2f}, p(true) {clip.probability_true:.2f}"
    for clip in shown.itertuples()
]
titles = [title.replace("_", " ") for title in titles]

# %% mystnb={"figure": {"name": "fig-07-errors", "caption": "Misclassified test clips: input spectrogram with both probabilities (left), and Grad-CAM for the predicted class at block 5, for the true class at block 5, and for the predicted class at block 3, over the spectrogram in grey. Answers thesis figure 4.35."}, "image": {"alt": "A row per clip with four panels: a log-mel spectrogram and three copies of it in grey under coloured Grad-CAM maps, smooth blobs for block 5 and finer patches for block 3."}}
figure = figures.errors(inputs[:, 0].cpu().numpy(), cams, titles, settings.front_end)

# %% [markdown]
# Listen to them. Would you have done better?

# %%
waveforms, n_valid = data.batch(rows)
report.players(
    [
        report.player(
            waveform[:n].numpy(),
            settings.front_end.sr,
            f"{title}: {clip.filename}",
            settings.licence,
        )
        for waveform, n, title, clip in zip(
            waveforms, n_valid, titles, shown.itertuples(), strict=True
        )
    ]
)

# %% [markdown]
# ## Do the maps of the two classes differ?
#
# If Grad-CAM showed why one class won, its maps for the predicted and for the true class should lie
# in different places. Their correlation over the misclassified test clips, at most 64 of them (over
# test clips, against the second most probable class, where nothing is wrong):

# %%
judged = (wrong if len(wrong) else test).head(64)
runner_up = np.argsort(-probabilities[judged.index], axis=1)[:, 1]
other = torch.tensor(judged.label.to_numpy() if len(wrong) else runner_up)
batch = front_end.features(*data.batch(judged.row.to_numpy(), device))
first_maps = gradcam(model, "conv_block5", batch, torch.tensor(judged.predicted.to_numpy()))
other_maps = gradcam(model, "conv_block5", batch, other)
similarity = np.array([
    np.corrcoef(a.ravel(), b.ravel())[0, 1] if a.std() > 0 and b.std() > 0 else np.nan
    for a, b in zip(first_maps.cpu().numpy(), other_maps.cpu().numpy(), strict=True)
])  # fmt: skip
print(f"median correlation {np.nanmedian(similarity):.2f}, {np.isfinite(similarity).sum()} clips")

# %% tags=["hide-input"]
wrong.to_csv(folder / "misclassified.csv", index=False)
report.publish(
    folder,
    {
        "misclassified": Metric(len(wrong)),
        "test_clips": Metric(len(test)),
        "map_correlation": Metric(float(np.nanmedian(similarity)), "", len(judged)),
        "median_confidence_right": Metric(float(right.confidence.median()), "", len(right)),
    },
)

# %% [markdown]
# ## What we learned
#
# - {glue:text}`misclassified` of {glue:text}`test_clips` test clips are misclassified; the median
#   probability of right decisions is {glue:text}`median_confidence_right:.2f`.
# - The maps for the predicted and for the true class have a median correlation of
#   {glue:text}`map_correlation:.2f`. The closer to 1, the less such a map says about *why one class
#   rather than the other*.
# - A heat map cannot be heard, and looking plausible is no evidence. Whether what a map marks
#   carries the decision has to be measured by removing it.
#
# ## Exercises
#
# 1. For each clip, predict from sound and spectrogram which class will win, then read the title.
# 2. Compute the maps at block 4. Do they agree with block 5's?
# 3. Randomise the last linear layer and draw the maps again. Should they change? Do they?
