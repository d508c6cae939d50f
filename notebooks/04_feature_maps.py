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
# # Feature maps and gates
#
# **Question: what does each block pass on, and what do the squeeze-and-excitation gates change?**
#
# One clip is followed through the five blocks and four gates of the trained network (figures 4.21
# to 4.30 of the thesis), then the gates are compared over classes.
#
# Before it: {doc}`03_training`. Run time: under a minute.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_maps = 16  # maps shown per layer

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib import activations, checkpoint, evaluation, report
from esc_lib.artifacts import find, open_data, own, root
from esc_lib.config import get_profile
from esc_lib.features import LogMel
from esc_lib.figures import feature_maps as figures
from esc_lib.figures import features as feature_figures
from esc_lib.figures import style
from esc_lib.hardware import best_device
from esc_lib.models.se_cnn import BLOCKS, GATES
from esc_lib.report import Metric

style.apply()
settings = get_profile(profile)
data = open_data(find(root(profile, artifacts), "01_data"))
trained = find(root(profile, artifacts), "03_training")
model = checkpoint.load(trained / "model.safetensors", settings, data.class_names)
device = best_device()
front_end = LogMel(settings.front_end).to(device)
predictions = pd.read_csv(trained / "predictions.csv")
folder = own(root(profile, artifacts), "04_feature_maps")

# %% [markdown]
# ## The clip
#
# The test clip that the network gets right with most confidence: what a clear case looks like
# inside. Hard cases follow in {doc}`07_misclassification_gradcam`.

# %%
test_clips = predictions[predictions.part == "test"]
right = test_clips[test_clips.label == test_clips.predicted]
clear = (right if len(right) else test_clips).sort_values("confidence").iloc[-1]
row = int(clear.row)
batch = data.batch([row], device)
inputs = front_end.features(*batch)
with activations.record(model, [*BLOCKS, *GATES]) as maps, torch.no_grad():
    model(inputs)
caption = f"{clear.category}: {clear.filename} (fold {clear.fold})"
waveform = batch[0][0, : int(batch[1])].cpu().numpy()
report.player(waveform, settings.front_end.sr, caption, settings.licence)

# %% mystnb={"figure": {"name": "fig-04-input", "caption": "The network's input: the standardised log-mel spectrogram of the chosen test clip. Answers thesis figure 4.21."}, "image": {"alt": "Standardised log-mel spectrogram of one clip."}}
figure = feature_figures.single(
    inputs[0, 0].cpu().numpy(), settings.front_end, caption.replace("_", " "), "deviations"
)

# %% [markdown]
# ## Blocks
#
# Of each block the most active channels, ordered by mean activation, on one colour scale per block.
# Deeper blocks have fewer bands and frames: each pixel stands for more of the clip.


# %%
def strongest(layer):
    """Return a layer's most active maps of the clip, and their channel numbers."""
    values = maps[layer][0].cpu().numpy()
    channels = np.argsort(-values.mean(axis=(1, 2)))[:n_maps]
    return values[channels], channels


# %% mystnb={"figure": {"name": "fig-04-block1", "caption": "Block 1: the most active channels keep the input's shape, split into edges, plateaus and onsets. Answers thesis figure 4.22."}, "image": {"alt": "A grid of sixteen small feature maps at nearly the input's resolution, many resembling the input spectrogram."}}
figure = figures.maps(*strongest("conv_block1"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-block2", "caption": "Block 2, before its gate. Answers thesis figure 4.23."}, "image": {"alt": "A grid of sixteen feature maps at a quarter of the input's resolution."}}
figure = figures.maps(*strongest("conv_block2"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-block3", "caption": "Block 3, before its gate. Answers thesis figure 4.24."}, "image": {"alt": "A grid of sixteen coarser feature maps, each active in some bands and frames only."}}
figure = figures.maps(*strongest("conv_block3"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-block4", "caption": "Block 4, before its gate: few bands are left, and channels differ more in when they are active than in shape. Answers thesis figure 4.25."}, "image": {"alt": "A grid of sixteen feature maps with a handful of rows and columns each."}}
figure = figures.maps(*strongest("conv_block4"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-block5", "caption": "Block 5, before its gate: a few positions per channel, which the head averages away. Answers thesis figure 4.26."}, "image": {"alt": "A grid of sixteen feature maps of very few large pixels."}}
figure = figures.maps(*strongest("conv_block5"), settings.front_end)

# %% [markdown]
# ## Gates
#
# A gate multiplies each channel by one number between 0 and 1 that depends on the whole clip. A map
# keeps its shape; only its weight changes. The maps behind the gates are therefore shown with what
# was done to each channel.

# %% mystnb={"figure": {"name": "fig-04-se1", "caption": "After SE gate 1 (behind block 2). Answers thesis figure 4.27."}, "image": {"alt": "A grid of sixteen feature maps after the first gate, with the shapes of block 2."}}
figure = figures.maps(*strongest("se1"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se2", "caption": "After SE gate 2 (behind block 3). Answers thesis figure 4.28."}, "image": {"alt": "A grid of sixteen feature maps after the second gate."}}
figure = figures.maps(*strongest("se2"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se3", "caption": "After SE gate 3 (behind block 4). Answers thesis figure 4.29."}, "image": {"alt": "A grid of sixteen feature maps after the third gate."}}
figure = figures.maps(*strongest("se3"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se4", "caption": "After SE gate 4 (behind block 5). Answers thesis figure 4.30."}, "image": {"alt": "A grid of sixteen feature maps after the fourth gate."}}
figure = figures.maps(*strongest("se4"), settings.front_end)

# %%
recalibrated = {}
for gate in GATES:
    block = f"conv_block{int(gate[2:]) + 1}"
    before = maps[block][0].mean(dim=(1, 2)).cpu().numpy()
    with torch.no_grad():
        values = getattr(model, gate).gate(maps[block])[0].cpu().numpy()
    recalibrated[gate] = before, before * values, values

# %% mystnb={"figure": {"name": "fig-04-recalibration", "caption": "What the four gates do to the channels of the clip. Left: gate values, sorted; a gate with zero weights would stand at 0.5. Right: mean activation of each channel before and after."}, "image": {"alt": "Four rows of two panels: a sorted curve of gate values between 0 and 1, and a scatter plot of channel activation before and after the gate, below the diagonal."}}
figure = figures.recalibration(recalibrated)

# %% [markdown]
# ## Gates over classes
#
# If a gate carried class information, its values would differ between classes. The mean gate value
# per class, over all test clips, and the share of each channel's variance that lies between classes:

# %% tags=["remove-stderr"]
test = data.split.test
gates = activations.se_gates(model, front_end, data, test)
labels = data.clips.label.to_numpy()[test]
classes = np.arange(len(data.class_names))
means = {g: np.stack([v[labels == c].mean(axis=0) for c in classes]) for g, v in gates.items()}
spread = pd.DataFrame(
    {
        "mean": {g: v.mean() for g, v in gates.items()},
        "sd over clips and channels": {g: v.std() for g, v in gates.items()},
        "variance between classes (%)": {
            g: 100 * evaluation.variance_between_classes(v, labels) for g, v in gates.items()
        },
    }
)
spread.style.format("{:.3f}").format("{:.1f}", subset=["variance between classes (%)"])

# %% mystnb={"figure": {"name": "fig-04-gates", "caption": "Mean gate value per class (rows) and channel (columns, those that differ most between classes first), test clips, one colour scale."}, "image": {"alt": "Four heat maps side by side, one per gate, classes down and channels across; the left columns vary between classes, the right ones are uniform."}}
figure = figures.gates_per_class(means, data.class_names)

# %% tags=["hide-input"]
np.savez_compressed(folder / "gates.npz", rows=test, **gates)
between = spread["variance between classes (%)"]
report.publish(
    folder,
    {
        f"{gate}_between_pct": Metric(float(between[gate]), "%", len(test)) for gate in GATES
    }
    | {f"{gate}_mean": Metric(float(spread["mean"][gate]), "", len(test)) for gate in GATES},
)

# %% [markdown]
# ## What we learned
#
# - Block by block the maps trade resolution for channels. From block 4 on a map has only a few rows:
#   it can say *when* something is there far better than *where in frequency*. That is why
#   {doc}`05_dictionaries` averages a map over frequency and lets a dictionary supply the spectrum.
# - Gates scale channels and do not change shapes. Their mean values are {glue:text}`se1_mean:.2f`,
#   {glue:text}`se2_mean:.2f`, {glue:text}`se3_mean:.2f` and {glue:text}`se4_mean:.2f`. A gate that
#   stands at one half in every channel of a clip has had all its hidden units silenced by the ReLU
#   between its layers: it does nothing for that clip.
# - Between classes lies {glue:text}`se1_between_pct:.0f` % of the gate variance in the first and
#   {glue:text}`se4_between_pct:.0f` % in the last gate (class means of few clips vary by chance too,
#   so small values mean nothing).
# - Whether the gates *help* the decision is not shown here: the thesis claims it, and it takes a
#   trained network without gates to know.
#
# ## Exercises
#
# 1. Set `n_maps` to 32 and look at the weakest channels of block 5. Are any of them always silent?
# 2. Follow a clip of another class. Which channels of block 4 change most?
# 3. Replace a gate's output by 1 with a hook and count how many test decisions change.
