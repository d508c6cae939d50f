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
# # The classifier and its training
#
# **Question: what does the network look like, what does it cost, and how well does it learn?**
#
# The thesis's network is rebuilt exactly and its printed costs are recomputed (figures 3.2, 3.3 and
# 4.20, tables 3.1 and 4.2, section 4.5); then the network of this profile is trained (section 4.6).
#
# Before it: {doc}`01_data`. Run time: under two minutes for the procedural clips, hours for ESC-50
# without a GPU. A run that is stopped goes on after its last whole epoch.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # at most this many; 0: as the profile says

# %% tags=["hide-input"]
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from esc_lib import activations, checkpoint, complexity, report, training
from esc_lib.artifacts import find, open_data, own, root
from esc_lib.config import FrontEnd, get_profile
from esc_lib.features import LogMel
from esc_lib.figures import style
from esc_lib.figures import training as figures
from esc_lib.hardware import best_device
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.report import Metric

style.apply()
settings = get_profile(profile)
if epochs:
    settings = replace(settings, training=replace(settings.training, epochs=epochs))
data_source = find(root(profile, artifacts), "01_data")
data = open_data(data_source)
folder = own(root(profile, artifacts), "03_training")

# %% [markdown]
# ## The thesis's network
#
# Five blocks of two 3 x 3 convolutions, each with batch normalisation and ReLU, then 2 x 2 maximum
# pooling; squeeze-and-excitation gates behind blocks 2 to 5; global average pooling and two linear
# layers ({doc}`../methods`). The thesis prints three descriptions that contradict each other; this
# is the one that reproduces its totals.

# %%
thesis_net = SECNN(50)
thesis_input = FrontEnd()
cost = complexity.cost(thesis_net, thesis_input.n_mels, thesis_input.n_frames)
totals = {
    "parameters": [21_569_906, cost.parameters],
    "multiply-adds (G)": [14.09, cost.multiply_adds / 1e9],
    "forward / backward memory (MB)": [218.14, cost.forward_mb],
    "parameter memory (MB)": [86.28, cost.parameter_mb],
    "total memory (MB)": [304.64, cost.total_mb],
}
totals = pd.DataFrame(totals, index=["thesis", "computed"]).T
totals.style.format("{:,.2f}").format("{:,.0f}", subset=("parameters", slice(None)))

# %%
shapes = [("input", (1, thesis_input.n_mels, thesis_input.n_frames))]
with activations.record(thesis_net.eval(), BLOCKS) as maps, torch.no_grad():
    thesis_net(torch.zeros(1, 1, thesis_input.n_mels, thesis_input.n_frames))
shapes += [(f"block {i}", tuple(maps[block].shape[1:])) for i, block in enumerate(BLOCKS, 1)]

# %% mystnb={"figure": {"name": "fig-03-shapes", "caption": "Feature maps through the thesis's network: channels x mel bands x frames after each block. Pooling halves both axes five times while channels grow to 1024. Answers thesis figure 3.2."}, "image": {"alt": "A row of stacked rectangles that shrink from left to right, labelled with the number of channels, mel bands and frames after each block."}}
figure = figures.shapes(shapes)

# %% mystnb={"figure": {"name": "fig-03-head", "caption": "The classification head that reproduces the printed totals: global average pooling, one hidden layer with dropout, 50 classes. Thesis figure 3.3 shows another one (1536, 512, 256, 50)."}, "image": {"alt": "Four boxes in a row joined by arrows: pooled features 1024, hidden layer 2048, dropout, classes 50."}}
pooled, hidden = thesis_net.fc1.in_features, thesis_net.fc1.out_features
figure = figures.head(
    [("pooled", pooled), ("fc1, ReLU", hidden), ("dropout", hidden), ("fc2, classes", 50)]
)

# %% [markdown]
# ### Table 4.2, recomputed
#
# The printed rows sum to 21,570,290, which is not the printed total. Three rows are wrong.

# %%
printed = {
    "conv_block1": 37_696, "conv_block2": 221_824, "SE gates": 524_544, "conv_block3": 885_760,
    "conv_block4": 3_540_992, "conv_block5": 14_157_824, "fc layers": 2_201_650,
}  # fmt: skip
table = cost.components.assign(printed=pd.Series(printed))
table["printed - real"] = table.printed - table.parameters
table.loc["sum"] = table.sum()
table.style.format("{:,.0f}").format("{:.2f}", subset=["output_mb"])

# %% mystnb={"figure": {"name": "fig-03-costs", "caption": "Share of each component in parameters, multiply-adds and memory for outputs. Parameters sit in block 5, memory in block 1, computation almost evenly in all but the first; the SE gates cost next to nothing. Answers thesis figure 4.20 and table 4.2."}, "image": {"alt": "Grouped horizontal bars per component. Block 5 holds two thirds of the parameters, block 1 half of the memory, and blocks 2 to 5 about a fifth of the multiply-adds each."}}
figure = figures.costs(cost.components)

# %% [markdown]
# ### How far a unit sees
#
# The thesis prints a receptive field of 127. Adding up kernels and strides, and following the
# gradient of one unit back to the input, both give other numbers; and through the global pooling in
# the SE gates every unit behind a gate depends on the whole clip anyway.

# %%
field = {
    place: (
        complexity.receptive_field(thesis_net, after_pool=after_pool),
        complexity.receptive_field_by_gradient(after_pool=after_pool),
    )
    for place, after_pool in (("last convolution", False), ("last pooling", True))
}
pd.DataFrame(field, index=["derived", "by gradient"]).T

# %% [markdown]
# ## Training
#
# Cross-entropy, Adam, learning rate lowered when the validation loss stalls, mixup, noise and shift,
# as the thesis says. The kept weights are those of the best validation epoch; the test fold is
# looked at once, below, after everything is decided.

# %% tags=["remove-stderr"]
started = time.perf_counter()
fit = training.fit(data, settings, folder)
wall_s = time.perf_counter() - started
print(f"{len(fit.history)} epochs, best is epoch {fit.best_epoch}")

# %% mystnb={"figure": {"name": "fig-03-history", "caption": "Loss, accuracy and learning rate per epoch; the vertical line marks the kept epoch. Training accuracy is counted on augmented, mixed clips and therefore lies low."}, "image": {"alt": "Three panels over the epoch: training and validation loss falling, training and validation accuracy rising above chance, learning rate falling in steps."}}
chance = 1 / len(data.class_names)
figure = figures.history(fit.history, fit.best_epoch, chance)

# %% [markdown]
# ## Predictions
#
# Validation and test clips, once, with the kept weights; {doc}`06_evaluation` reads them.

# %% tags=["remove-stderr"]
rows = np.concatenate([data.split.validation, data.split.test])
device = best_device()
logits = training.predict(
    fit.model.to(device), LogMel(settings.front_end).to(device), data, rows
)
probabilities = logits.softmax(dim=1).numpy()
predictions = data.clips.loc[rows, ["filename", "fold", "part", "category", "label"]].assign(
    row=rows, predicted=probabilities.argmax(axis=1), confidence=probabilities.max(axis=1)
)

# %% tags=["hide-input"]
checkpoint.save(folder / "model.safetensors", fit.model, settings, data.class_names)
fit.history.to_csv(folder / "history.csv", index=False)
predictions.to_csv(folder / "predictions.csv", index=False)
np.save(folder / "probabilities.npy", probabilities.astype(np.float32))
report.save_json(folder / "run.json", report.provenance(settings, data_source, wall_s))

# %% tags=["hide-input"]
best = fit.history.validation_accuracy.max()
components = cost.components.parameters
n_parameters = sum(p.numel() for p in fit.model.parameters())
blocks = {f"block{i}_parameters": int(components[b]) for i, b in enumerate(BLOCKS, 1)}
blocks |= {"se_parameters": int(components["SE gates"])}
blocks |= {"fc_parameters": int(components["fc layers"])}
report.publish(
    folder,
    {name: Metric(count) for name, count in blocks.items()}
    | {
        "parameters": Metric(cost.parameters),
        "multiply_adds_g": Metric(cost.multiply_adds / 1e9, "G"),
        "forward_memory_mb": Metric(cost.forward_mb, "MB"),
        "parameter_memory_mb": Metric(cost.parameter_mb, "MB"),
        "total_memory_mb": Metric(cost.total_mb, "MB"),
        "memory_per_g": Metric(cost.forward_mb / (cost.multiply_adds / 1e9), "MB per G"),
        "rf_last_conv": Metric(field["last convolution"][1], "bins"),
        "rf_last_pool": Metric(field["last pooling"][1], "bins"),
        "run_parameters": Metric(n_parameters),
        "epochs": Metric(len(fit.history)),
        "best_epoch": Metric(fit.best_epoch),
        "best_validation_accuracy": Metric(100 * float(best), "%", len(data.split.validation)),
        "epoch_s": Metric(float(fit.history.seconds.median()), "s", len(fit.history)),
    },
)

# %% [markdown]
# ## What we learned
#
# - The network with {glue:text}`parameters` parameters and {glue:text}`multiply_adds_g:.2f` G
#   multiply-adds is the one the thesis trained: every printed total comes out. "GFLOPs" in the
#   thesis are multiply-adds, and its 21.62 MB per G should read {glue:text}`memory_per_g:.2f`.
# - A unit of the last convolution sees {glue:text}`rf_last_conv` bins of its input, after the last
#   pooling {glue:text}`rf_last_pool`: more than the whole frequency axis.
# - This build trained {glue:text}`run_parameters` parameters for {glue:text}`epochs` epochs
#   ({glue:text}`epoch_s:.1f` s each) and reached {glue:text}`best_validation_accuracy:.1f` % on
#   source-grouped validation clips. That number was used to choose an epoch, so it flatters; the
#   test accuracy is in {doc}`06_evaluation`.
#
# ## Exercises
#
# 1. Which block would you prune for memory, and which for parameters? Check with
#    {numref}`fig-03-costs`.
# 2. Set mixup's alpha to 0. Predict what happens to the gap between the two accuracy curves.
# 3. Interrupt the training cell, restart the kernel and run the notebook again: which epoch comes
#    first?
