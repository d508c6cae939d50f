# %% [markdown]
# # The classifier and its training
#
# **Question: what does the network look like, what does it cost, and how well does it learn?**
#
# The thesis's network is rebuilt exactly and its printed costs are recomputed (figures 3.2, 3.3 and
# 4.20, tables 3.1 and 4.2, section 4.5); then the network of this profile is trained (section 4.6).
#
# Before it: {doc}`01_data`. Run time: under two minutes for the procedural clips, hours for ESC-50
# without a GPU. A run that is stopped goes on from where it was a minute before.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
recipe = ""  # thesis or strong; empty: as the profile says
start_from = ""  # folder of a recorded run, as results/esc10: take its weights, train nothing

# %% tags=["hide-input"]
import shutil

import numpy as np
import pandas as pd
import torch

from esc_lib.config import FrontEnd
from esc_lib.efficiency import cost, receptive_field, receptive_field_by_gradient
from esc_lib.figures import training as figures
from esc_lib.layers import record
from esc_lib.models import BLOCKS, SECNN
from esc_lib.study import Chapter, Metric
from esc_lib.training import checkpoint, predict, runs

chapter = Chapter("03_training", profile, artifacts, epochs, recipe, needs=["lightning_fabric"])
settings, data = chapter.settings, chapter.data

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
costs = cost(thesis_net, thesis_input.n_mels, thesis_input.n_frames)
totals = {
    "parameters": [21_569_906, costs.parameters],
    "multiply-adds (G)": [14.09, costs.multiply_adds / 1e9],
    "forward / backward memory (MB)": [218.14, costs.forward_mb],
    "parameter memory (MB)": [86.28, costs.parameter_mb],
    "total memory (MB)": [304.64, costs.total_mb],
}
totals = pd.DataFrame(totals, index=["thesis", "computed"]).T
totals.style.format("{:,.2f}").format("{:,.0f}", subset=("parameters", slice(None)))

# %%
shapes = [("input", (1, thesis_input.n_mels, thesis_input.n_frames))]
with record(thesis_net.eval(), BLOCKS) as maps, torch.no_grad():
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
table = costs.components.assign(printed=pd.Series(printed))
table["printed - real"] = table.printed - table.parameters
table.loc["sum"] = table.sum()
table.style.format("{:,.0f}").format("{:.2f}", subset=["output_mb"])

# %% mystnb={"figure": {"name": "fig-03-costs", "caption": "Share of each component in parameters, multiply-adds and memory for outputs. Parameters sit in block 5, memory in block 1, computation almost evenly in all but the first; the SE gates cost next to nothing. Answers thesis figure 4.20 and table 4.2."}, "image": {"alt": "Grouped horizontal bars per component. Block 5 holds two thirds of the parameters, block 1 half of the memory, and blocks 2 to 5 about a fifth of the multiply-adds each."}}
figure = figures.costs(costs.components)

# %% [markdown]
# ### How far a unit sees
#
# The thesis prints a receptive field of 127. Adding up kernels and strides, and following the
# gradient of one unit back to the input, both give other numbers; and through the global pooling in
# the SE gates every unit behind a gate depends on the whole clip anyway.

# %%
field = {
    place: (
        receptive_field(thesis_net, after_pool=after_pool),
        receptive_field_by_gradient(after_pool=after_pool),
    )
    for place, after_pool in (("last convolution", False), ("last pooling", True))
}
pd.DataFrame(field, index=["derived", "by gradient"]).T

# %% [markdown]
# ## Training
#
# Two recipes train this network, both as data in `esc_lib/config.py`: `thesis` (Adam, learning rate
# lowered when the validation loss stalls, mixup, noise and shift, best validation epoch kept) and
# `strong`, the profile's choice unless said otherwise: excerpts drawn from the sounding part of each
# clip, mixed evenly {cite:p}`zhang2018mixup`, stretched and masked {cite:p}`park2019specaugment`;
# AdamW with one rise and fall of the learning rate {cite:p}`smith2019super`; smoothed labels; and a
# running mean of the weights, the last of which is kept: no epoch is chosen on validation clips.
# What each lever brings is measured in {doc}`12_evidence`. The test fold is looked at once, after
# the last epoch.

# %%
own_recipe = settings.training.recipe
rows = {k: v for k, v in vars(own_recipe).items() if k not in ("stages", "augmentation")}
rows |= {f"augmentation: {k}": v for k, v in vars(own_recipe.augmentation).items()}
rows |= {
    f"stage {i}": f"{stage.share:.0%} of epochs, {stage.crop_frames or 'all'} frames"
    for i, stage in enumerate(own_recipe.stages, 1)
}
pd.DataFrame({"setting": rows}).astype(str)

# %% tags=["remove-stderr"]
if start_from:
    run = runs.adopt(start_from, data, settings, chapter.runs)
else:
    run = runs.run(data, settings, chapter.runs)
history = pd.read_csv(run / "history.csv")
kept_epoch = runs.record_of(run)["kept_epoch"]
model = checkpoint.load(run / "model.safetensors", settings, data.class_names)
print(f"{len(history)} epochs, kept is epoch {kept_epoch}")

# %% mystnb={"figure": {"name": "fig-03-history", "caption": "Loss, accuracy and learning rate per epoch; the vertical line marks the kept epoch. Training accuracy is counted on augmented, mixed clips and therefore lies low; validation looks at one excerpt per clip."}, "image": {"alt": "Three panels over the epoch: training and validation loss falling, training and validation accuracy rising above chance, and the learning rate."}}
chance = 1 / len(data.class_names)
figure = figures.history(history, kept_epoch, chance)

# %% [markdown]
# ## Predictions
#
# Validation and test clips, once, with the kept weights, in two ways: as the recipe says (mean
# probability over a few excerpts), which {doc}`06_evaluation` judges; and from the whole clip at
# once, which is the decision that the notebooks on feature maps and Grad-CAM explain.

# %% tags=["remove-stderr"]
by_excerpts = pd.read_csv(run / "predictions.csv")
rows = by_excerpts.row.to_numpy()
logits = predict(model, chapter.front_end, data, rows)
whole = logits.softmax(dim=1).numpy()
excerpts = by_excerpts.filter(regex="^p_").to_numpy()
predictions = by_excerpts[["filename", "fold", "part", "category", "label", "row"]].assign(
    predicted=whole.argmax(axis=1),
    confidence=whole.max(axis=1),
    by_excerpts=excerpts.argmax(axis=1),
)

# %% tags=["hide-input"]
for name in ("model.safetensors", "history.csv", "run.json"):
    shutil.copy2(run / name, chapter.folder / name)
predictions.to_csv(chapter.folder / "predictions.csv", index=False)
np.savez(chapter.folder / "probabilities.npz", whole=whole, excerpts=excerpts)

# %% tags=["hide-input"]
validation = predictions[predictions.part == "validation"]
validation_accuracy = 100 * (validation.label == validation.by_excerpts).mean()
components = costs.components.parameters
blocks = {f"block{i}_parameters": int(components[b]) for i, b in enumerate(BLOCKS, 1)}
blocks |= {"se_parameters": int(components["SE gates"])}
blocks |= {"fc_parameters": int(components["fc layers"])}

# %% tags=["hide-input"]
chapter.publish(
    blocks
    | {
        "parameters": costs.parameters,
        "multiply_adds_g": Metric(costs.multiply_adds / 1e9, "G"),
        "forward_memory_mb": Metric(costs.forward_mb, "MB"),
        "parameter_memory_mb": Metric(costs.parameter_mb, "MB"),
        "total_memory_mb": Metric(costs.total_mb, "MB"),
        "memory_per_g": Metric(costs.forward_mb / (costs.multiply_adds / 1e9), "MB per G"),
        "rf_last_conv": Metric(field["last convolution"][1], "bins"),
        "rf_last_pool": Metric(field["last pooling"][1], "bins"),
        "run_parameters": sum(p.numel() for p in model.parameters()),
        "epochs": len(history),
        "kept_epoch": kept_epoch,
        "recipe": own_recipe.name,
        "validation_accuracy": Metric(float(validation_accuracy), "%", len(validation)),
        "epoch_s": Metric(float(history.seconds.median()), "s", len(history)),
        "training_min": Metric(float(history.seconds.sum() / 60), "min"),
    }
)

# %% [markdown]
# ## What we learned
#
# - The network with {glue:text}`parameters` parameters and {glue:text}`multiply_adds_g:.2f` G
#   multiply-adds is the one the thesis trained: every printed total comes out. "GFLOPs" in the
#   thesis are multiply-adds, and its 21.62 MB per G should read {glue:text}`memory_per_g:.2f`.
# - A unit of the last convolution sees {glue:text}`rf_last_conv` bins of its input, after the last
#   pooling {glue:text}`rf_last_pool`: more than the whole frequency axis.
# - This build trained {glue:text}`run_parameters` parameters with the recipe
#   {glue:text}`recipe` for {glue:text}`epochs` epochs ({glue:text}`epoch_s:.1f` s each,
#   {glue:text}`training_min:.1f` min in all) and gets {glue:text}`validation_accuracy:.1f` % of its
#   source-grouped validation clips right; the test accuracy is in {doc}`06_evaluation`.
#
# ## Exercises
#
# 1. Which block would you prune for memory, and which for parameters? Check with
#    {numref}`fig-03-costs`.
# 2. Set `mixing` to none. Predict what happens to the gap between the two accuracy curves.
# 3. Interrupt the training cell, restart the kernel and run the notebook again: which epoch comes
#    first?
