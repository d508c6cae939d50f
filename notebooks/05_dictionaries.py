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
# # Dictionaries over hidden activations
#
# **Question: does a hidden layer hold the spectrum of the sound, and which dictionary shows it?**
#
# $V \approx WH$ with $H$ read from the network and only $W$ learned, under the thesis's three
# constraints; each is compared with the best that this $H$ allows, on clips the dictionary has not
# seen. Mirrors sections 3.8 and 4.3 and appendix A of the thesis (figures 4.11 to 4.19, A.1 to
# A.89).
#
# Before it: {doc}`03_training`. Run time: about a minute for the procedural clips.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_examples = 4  # test clips shown

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from tqdm import tqdm

from esc_lib import activations, checkpoint, dictionaries, report, training
from esc_lib.artifacts import find, open_data, own, root
from esc_lib.config import get_profile
from esc_lib.datasets import esc50
from esc_lib.features import LogMel, mel_frequencies_hz
from esc_lib.figures import dictionaries as figures
from esc_lib.figures import style
from esc_lib.hardware import best_device
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.report import Metric

style.apply()
settings = get_profile(profile)
layer = settings.dictionaries.layer
data = open_data(find(root(profile, artifacts), "01_data"))
weights = find(root(profile, artifacts), "03_training") / "model.safetensors"
model = checkpoint.load(weights, settings, data.class_names)
device = best_device()
front_end = LogMel(settings.front_end).to(device)
folder = own(root(profile, artifacts), "05_dictionaries")

# %% [markdown]
# ## The mel axis
#
# $V$ is the mel magnitude of a clip, its peak at 1: non-negative, and on the axis the thesis draws
# its filters on. It is *not* the standardised log-mel spectrogram that the network sees, which has
# negative values and no place in a non-negative model.

# %% mystnb={"figure": {"name": "fig-05-bank", "caption": "The mel filter bank of this profile's front end: some filters as curves (left, logarithmic frequency axis) and all of them (right, linear axis). Answers thesis figure A.1."}, "image": {"alt": "Left: overlapping triangles that widen towards high frequencies. Right: a bright curve bending upwards through the plane of frequency and mel band."}}
figure = figures.mel_bank(front_end.mel_basis.cpu().numpy(), settings.front_end)

# %% [markdown]
# ## Activations to H
#
# $H$ is a block's output after ReLU and pooling, before its gate, averaged over frequency: one row
# per channel, one column per frame of the layer. $V$ is averaged to the same frames. One pass over
# the clips collects what the fits need: $HH^\top$, $VH^\top$ and $\lVert V\rVert^2$
# ({doc}`../methods`), for training and test clips apart, and for a network of the same shape whose
# weights are random.

# %% tags=["remove-stderr"]
untrained = training.initial_model(settings, len(data.class_names))
networks = {"trained": model, "random": untrained.to(device).eval()}
statistics, clip_h = {}, {}
for network, net in networks.items():
    for part, rows in (("train", data.split.train), ("test", data.split.test)):
        collected = dictionaries.collect(net, front_end, data, rows, BLOCKS, keep=layer)
        statistics[network, part], clip_h[network, part] = collected

# %% [markdown]
# ## Three constraints, one optimum
#
# - **LinearNoBiasSoftplus**: any non-negative $W$.
# - **MelConstrainedLinear**: each atom a triangle with learned centre, width and gain.
# - **MelBasisTransform**: fixed Gaussians in a row, learned scales only.
#
# The exact non-negative least-squares solution for the same $H$ is the yardstick. All are fitted on
# training clips; one scale per channel, fixed there too, puts channels on a common level.

# %% tags=["remove-stderr"]
fits = {
    block: dictionaries.fit_layer(
        statistics["trained", "train"][block], settings.dictionaries, settings.training.seed
    )
    for block in tqdm(BLOCKS, desc="fitting")
}
names = list(fits[layer].traces)

# %% mystnb={"figure": {"name": "fig-05-learning", "caption": "Relative error on the training clips per epoch, main layer, above the least error that any non-negative W can reach with this H."}, "image": {"alt": "Three falling curves over 200 epochs; the free dictionary approaches the horizontal line of the optimum, the two constrained ones stay above it."}}
errors = {name: trace.errors for name, trace in fits[layer].traces.items()}
least = fits[layer].errors(statistics["trained", "train"][layer])["optimum"]
figure = figures.learning(errors, least)

# %% [markdown]
# ### Held-out error
#
# Relative error $\lVert V - WH\rVert / \lVert V\rVert$ on the test clips. The last two rows know less: the optimum for a random network's $H$, and the training clips' mean spectrum, always on.

# %%
table = {}
for block in BLOCKS:
    train, test = (statistics["random", part][block] for part in ("train", "test"))
    random = dictionaries.fit_layer(train, settings.dictionaries, 0, models=())
    table[block] = fits[block].errors(statistics["trained", "test"][block]) | {
        "optimum, random network": random.errors(test)["optimum"],
        "mean spectrum": dictionaries.mean_spectrum_error(train, test),
    }
table = pd.DataFrame(table).T
table.T.style.format("{:.3f}").format_index(lambda block: block.removeprefix("conv_"), axis=1)

# %% mystnb={"figure": {"name": "fig-05-layers", "caption": "Relative error on test clips by layer: three constrained dictionaries, the optimum with the same H, the optimum with a random network's H, and the mean spectrum alone. Lower is better."}, "image": {"alt": "Six lines over the five blocks showing relative error between 0 and 1, with the mean spectrum as an almost horizontal reference."}}
figure = figures.errors_by_layer(table)

# %% [markdown]
# ## The learned functions
#
# Atoms of the main layer, sorted by centre and each divided by its own peak.

# %%
w_final = {name: trace.snapshots[-1] for name, trace in fits[layer].traces.items()}
order = {name: dictionaries.sort_by_centre(w) for name, w in w_final.items()}

# %% mystnb={"figure": {"name": "fig-05-functions-linear", "caption": "LinearNoBiasSoftplus: learned atoms, some as curves (left), all (right), sorted by centre. Answers thesis figure 4.12."}, "image": {"alt": "Left: spectra with several peaks each. Right: a heat map with a diffuse diagonal and much structure off it."}}
name = "LinearNoBiasSoftplus"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-functions-basis", "caption": "MelBasisTransform: fixed Gaussians; only their heights were learned, which this view divides out. Answers thesis figure 4.13."}, "image": {"alt": "Left: narrow bells of equal shape in a row. Right: a clean diagonal."}}
name = "MelBasisTransform"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-functions-triangles", "caption": "MelConstrainedLinear: triangles with learned centres and widths. Answers thesis figure 4.14."}, "image": {"alt": "Left: triangles of different widths. Right: a diagonal band whose thickness varies between atoms."}}
name = "MelConstrainedLinear"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end)

# %% [markdown]
# ## How they came about
#
# Thesis appendix A shows filters and heat map every 20 epochs for each model in 88 figures; here a
# column is an epoch, all columns of a model on one scale.

# %% mystnb={"figure": {"name": "fig-05-trace-linear", "caption": "LinearNoBiasSoftplus every 20 epochs: filters above, heat map below, divided by each atom's final peak. Answers thesis figures A.2 to A.31."}, "image": {"alt": "Ten columns from epoch 20 to 200. The curves and heat maps grow peaks in the early columns and hardly change in the late ones."}}
traces = {n: trace.snapshots[:, :, order[n]] for n, trace in fits[layer].traces.items()}
epochs = fits[layer].traces[names[0]].epochs
figure = figures.trace(traces["LinearNoBiasSoftplus"], epochs, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-trace-triangles", "caption": "MelConstrainedLinear every 20 epochs: centres and widths move. Answers thesis figures A.32 to A.61, whose captions name the wrong model."}, "image": {"alt": "Ten columns of triangles above and of a diagonal band below, from epoch 20 to 200, settling towards the right."}}
figure = figures.trace(traces["MelConstrainedLinear"], epochs, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-trace-basis", "caption": "MelBasisTransform every 20 epochs: only heights change. Answers thesis figures A.62 to A.89, whose captions name the wrong model."}, "image": {"alt": "Ten columns of bells above and of a diagonal below; places stay and brightness changes."}}
figure = figures.trace(traces["MelBasisTransform"], epochs, settings.front_end)

# %% [markdown]
# ## What the dictionaries rebuild
#
# Test clips of different classes: the target $V$ on the layer's time grid and each model's $WH$.

# %%
test_rows = data.split.test
_, first = np.unique(data.clips.label.to_numpy()[test_rows], return_index=True)
shown = first[:: max(1, len(first) // n_examples)][:n_examples]
scale = fits[layer].scale
h = clip_h["trained", "test"][shown].double() * scale[:, None]
target = activations.mel_magnitude(front_end, data.batch(test_rows[shown], device)[0])
target = activations.pool_frames(target, h.shape[-1]).cpu().numpy()
rebuilt = {name: (w @ h).numpy() for name, w in fits[layer].dictionaries().items()}
titles = data.clips.category.to_numpy()[test_rows[shown]].tolist()

# %% mystnb={"figure": {"name": "fig-05-activations", "caption": "Target magnitude and reconstructions from the main layer's H for test clips of several classes, one colour scale. Answers thesis figure 4.11."}, "image": {"alt": "A grid with a row per clip: the target spectrogram on the left, then three constrained reconstructions and the optimum, blurrier in frequency than the target."}}
figure = figures.reconstructions(target, rebuilt, titles, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-prediction", "caption": "One clip close up: target, the three models and the optimum. Answers thesis figure 4.18."}, "image": {"alt": "Five spectrograms in a row on one colour scale."}}
figure = figures.reconstructions(
    target[:1], {n: v[:1] for n, v in rebuilt.items()}, titles[:1], settings.front_end
)

# %% mystnb={"figure": {"name": "fig-05-patterns", "caption": "Mean spectrum over all test clips: the target's, and what each model puts in its place. Answers thesis figure 4.19."}, "image": {"alt": "Four lines over frequency: the target mean spectrum, two models that follow it and one that may miss its shape."}}
held_out = statistics["trained", "test"][layer].scaled(scale)
mean = {n: w @ (held_out.sum_h / held_out.n_frames).numpy() for n, w in w_final.items()}
mean = {"target": (held_out.sum_v / held_out.n_frames).numpy(), **mean}
figure = figures.patterns(mean, settings.front_end)

# %% [markdown]
# ## Atoms and groups of classes
#
# The thesis names filters for speech, music, noise, animals and machinery, which are not ESC-50's
# categories. Our mapping stands in `esc_lib/datasets/esc50.py`; clips that fit none are left out,
# and procedural clips keep their own classes. The use of an atom in a clip is its mean activation
# times its norm; its score for a group is the difference between the group's mean use and the
# others', in standard deviations. A negative score means *less used*: the activations themselves
# are never negative, whatever the thesis reads from its plots.

# %%
group = esc50.thesis_group(data.clips).iloc[data.split.train].to_numpy()
mean_h = clip_h["trained", "train"].mean(dim=2).numpy() * scale.numpy()
scores = {
    n: dictionaries.group_scores(mean_h * np.linalg.norm(w, axis=0), group)
    for n, w in w_final.items()
}
bands_hz = mel_frequencies_hz(settings.front_end).numpy()
centres = {n: dictionaries.centre_hz(w, bands_hz) for n, w in w_final.items()}

# %% mystnb={"figure": {"name": "fig-05-groups-basis", "caption": "MelBasisTransform: the atoms whose use differs most between a group and the rest, training clips. Atom number and centre below. Answers thesis figure 4.15."}, "image": {"alt": "One small bar chart per group with six bars, up for atoms used more and hatched down for atoms used less than elsewhere."}}
name = "MelBasisTransform"
figure = figures.group_atoms(scores[name], centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-linear", "caption": "LinearNoBiasSoftplus, likewise. Answers thesis figure 4.16. The bars equal those of the other models: H is the same, and only the centre printed below each bar comes from W."}, "image": {"alt": "One small bar chart per group with the same bars as the figure before and other centre frequencies."}}
name = "LinearNoBiasSoftplus"
figure = figures.group_atoms(scores[name], centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-triangles", "caption": "MelConstrainedLinear, likewise. Answers thesis figure 4.17."}, "image": {"alt": "One small bar chart per group with six bars each and centre frequencies below."}}
name = "MelConstrainedLinear"
figure = figures.group_atoms(scores[name], centres[name], name)

# %% tags=["hide-input"]
table.to_csv(folder / "held_out_errors.csv")
np.savez_compressed(
    folder / "dictionaries.npz",
    scale=scale.numpy(),
    optimum=fits[layer].optimum.numpy(),
    **w_final,
)
n_test = len(data.split.test)
columns = {
    "err_linear": "LinearNoBiasSoftplus",
    "err_triangles": "MelConstrainedLinear",
    "err_gaussians": "MelBasisTransform",
    "err_optimum": "optimum",
    "err_random_network": "optimum, random network",
    "err_mean_spectrum": "mean spectrum",
}
report.publish(
    folder,
    {"layer": Metric(layer)}
    | {key: Metric(float(table.loc[layer, c]), "", n_test) for key, c in columns.items()}
    | {
        f"err_optimum_block{i}": Metric(float(table.loc[block, "optimum"]), "", n_test)
        for i, block in enumerate(BLOCKS, 1)
    },
)

# %% [markdown]
# ## What we learned
#
# - With the $H$ of {glue:text}`layer`, the best non-negative dictionary leaves a relative error of
#   {glue:text}`err_optimum:.3f` on clips it has not seen; the mean spectrum alone
#   {glue:text}`err_mean_spectrum:.3f`, and the $H$ of a random network
#   {glue:text}`err_random_network:.3f`. Training put there what lies between the first and the last
#   of these; where the last is the smaller one, training has taken spectrum away.
# - The constraints have a price: free non-negative atoms {glue:text}`err_linear:.3f`, triangles
#   {glue:text}`err_triangles:.3f`, fixed Gaussians {glue:text}`err_gaussians:.3f`. The fixed row of
#   Gaussians pays most, since nothing ties channel $k$ to the $k$-th frequency; the thesis calls it
#   the effective compromise (4.3.4), which these numbers do not support.
# - Which atoms tell a group of classes apart is decided by $H$ alone: differences that the thesis
#   reads between its three models (4.3.3) cannot come from $W$.
#
# ## Exercises
#
# 1. Predict which layer gives the lowest held-out error, then look at {numref}`fig-05-layers`.
# 2. Raise `smoothness` in the profile by a factor of 100. Which model changes least, and why?
# 3. Reduce maps by their maximum over frequency instead of the mean. Does the deep layers'
#    advantage survive?
