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
# Before it: {doc}`03_training`. Run time: a minute or two for the procedural clips.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_examples = 4  # test clips shown
reduction = "mean"  # of a map over frequency, to one value per frame: mean or max

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from tqdm import tqdm

from esc_lib import dictionaries
from esc_lib.data import major_category, thesis_group
from esc_lib.dictionaries import atoms, judge
from esc_lib.figures import dictionaries as figures
from esc_lib.figures import interval_rows, style
from esc_lib.figures.html import slider
from esc_lib.models import BLOCKS, GATES
from esc_lib.sound import mel_frequencies_hz
from esc_lib.study import Chapter, Metric, source
from esc_lib.training import initial_model

chapter = Chapter("05_dictionaries", profile, artifacts)
settings, data, model = chapter.settings, chapter.data, chapter.model
device, front_end = chapter.device, chapter.front_end
layer, seed = settings.dictionaries.layer, settings.training.seed

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
# $H$ is a layer's output, averaged over frequency: one row per channel, one column per frame of the
# layer. $V$ is averaged to the same frames. The layers are the five blocks (after ReLU and pooling)
# and the four gates behind blocks 2 to 5, so that a block and its gate are one layer before and
# after squeeze-and-excitation. One pass over the clips collects what the fits need, $HH^\top$,
# $VH^\top$ and $\lVert V\rVert^2$ ({doc}`../methods`), and the blocks' $H$ itself, and keeps both
# for the next run. The sums are gathered, too, for a network of the same shape whose weights are
# random, and for uniform noise in the place of $H$.

# %% tags=["remove-stderr"]
untrained = initial_model(settings, len(data.class_names)).to(device).eval()
layers, hidden = (*BLOCKS, *GATES), {}
networks = {"trained": (model.to(device), None), "untrained": (untrained, 0)}
for network, part, keep in (
    ("trained", "train", BLOCKS), ("trained", "validation", BLOCKS), ("trained", "test", layers),
    ("untrained", "train", ()), ("untrained", "test", ()),
):  # fmt: skip
    net, noise = networks[network]
    hidden[network, part] = dictionaries.gather_once(
        chapter.cache / f"hidden_{network}_{part}.pt", net, front_end, data, getattr(data.split, part),
        layers, keep=keep, reduction=reduction, noise_seed=noise,
    )  # fmt: skip
train, validation, test = (hidden["trained", part] for part in style.PARTS)

# %% [markdown]
# ## How smooth should an atom be?
#
# The thesis adds a penalty on differences between neighbouring bands and does not give its weight.
# Here the free dictionary of the main layer is fitted with several, on training clips, and the
# weight of least error on *validation* clips is taken for all models that follow.

# %%
tried = dictionaries.try_smoothness(
    train.statistics[layer], validation.statistics[layer], settings.dictionaries, seed
)
chosen = float(tried.validation.idxmin())

# %% mystnb={"figure": {"name": "fig-05-smoothness", "caption": "The smoothness penalty at work on the free dictionary of the main layer. Left: relative error on the clips it was fitted to and on validation clips. Right: the root mean square step between neighbouring bands, relative to W's root mean square."}, "image": {"alt": "Left: two curves over the weight of the penalty, training error rising with the weight. Right: the step between bands falling as the weight grows. A dotted vertical line marks the weight that was taken."}}
figure = figures.smoothness(tried, chosen)

# %% [markdown]
# ## Three constraints, one optimum
#
# - **LinearNoBiasSoftplus**: any non-negative $W_{fk} = \ln(1 + e^{\Theta_{fk}})$.
# - **MelConstrainedLinear**: each atom a triangle with learned centre $c_k$, half-width $b_k$ and
#   gain, $W_{fk} = g_k \max(0, 1 - |f - c_k| / b_k)$.
# - **MelBasisTransform**: fixed Gaussians in a row, learned scales only,
#   $W_{fk} = s_k \exp(-(f - \mu_k)^2 / 2 \sigma^2)$.
#
# The exact non-negative least-squares solution for the same $H$ is the yardstick. All are fitted on
# training clips; one scale per channel, fixed there too, puts channels on a common level. What makes
# each $W$, as it runs:

# %% tags=["hide-input"]
source(*(model.dictionary for model in dictionaries.models.MODELS))

# %% [markdown]
# And the yardstick, $\min_{W \ge 0} \lVert V - WH \rVert^2$, row by row of $V$:

# %% tags=["hide-input"]
source(dictionaries.solve_exact)

# %% tags=["remove-stderr"]
fits = {
    name: dictionaries.fit_layer(
        train.statistics[name], settings.dictionaries, seed, smoothness=chosen
    )
    for name in tqdm(BLOCKS, desc="fitting")
}
names = list(fits[layer].traces)
above = judge.above_optimum(fits, train, settings.dictionaries, seed)

# %% mystnb={"figure": {"name": "fig-05-learning", "caption": "Relative error on the training clips per epoch, main layer, above the least error that any non-negative W can reach with this H."}, "image": {"alt": "Three falling curves over 200 epochs; the free dictionary approaches the horizontal line of the optimum, the two constrained ones stay above it."}}
errors = {name: trace.errors for name, trace in fits[layer].traces.items()}
least = fits[layer].errors(train.statistics[layer])["optimum"]
figure = figures.learning(errors, least)

# %% [markdown]
# ## Held-out error, layer by layer
#
# Relative error $\lVert V - WH\rVert / \lVert V\rVert$ on the test clips. The optimum appears three
# times: for the trained network's $H$, for an untrained network's, and for noise in its place.
# An error above 1 is worse than silence: a $W$ fitted to other clips can put sound where there is
# none.
# *Free NMF* chooses its own $H$, with as many atoms as the layer has channels (as many as bands, or
# more, leave no error: one atom per band). *Mean spectrum* is one atom that is always on.

# %% tags=["remove-stderr"]
table = judge.by_layer(fits, hidden, settings.dictionaries, seed)
table.rename(index=lambda block: block.removeprefix("conv_")).T.style.format("{:.3f}")

# %% mystnb={"figure": {"name": "fig-05-layers", "caption": "Relative error on test clips by layer: three constrained dictionaries, the optimum with the trained network's H, with an untrained network's and with noise, free NMF, and the mean spectrum alone. Lower is better."}, "image": {"alt": "Eight lines over the five blocks showing relative error between 0 and 1, with the mean spectrum as an almost horizontal reference and free NMF at or near zero in the layers with many channels."}}
figure = figures.errors_by_layer(table)

# %% [markdown]
# ### How much of the spectrum does each layer carry?
#
# The optimum per layer, gates included, with 95 % intervals from a bootstrap over the test clips'
# source recordings. Below a gate's block stands the gate: its channels are those of the block, each
# multiplied by one factor per clip.

# %% tags=["remove-stderr"]
carried = {}
for name in layers:
    if name not in fits:
        fits[name] = dictionaries.fit_layer(
            train.statistics[name], settings.dictionaries, seed, models=()
        )
    clips = judge.by_clip(fits[name], test, name, data.clips.iloc[data.split.test])
    carried[name] = judge.errors(clips, ["optimum"]).loc["optimum"]
order = [name for pair in zip(BLOCKS, ("", *GATES), strict=True) for name in pair if name]
carried = pd.DataFrame(carried).T.loc[order]

# %% mystnb={"figure": {"name": "fig-05-carried", "caption": "Least relative error on test clips that a non-negative dictionary reaches with each layer's H: blocks before, and se after the gate. Bars: 95 % interval over source recordings; dotted: the mean spectrum, which knows nothing of the layer."}, "image": {"alt": "A dot with a horizontal bar per layer, from block 1 at the top to the last gate, with a dotted vertical line for the mean spectrum."}}
reference = table.loc[layer, "mean spectrum"]
figure = interval_rows(carried, "error", "relative error, test clips", reference)

# %% [markdown]
# ### The price of a constraint
#
# Each model's error on the test clips as a multiple of the optimum's, main layer, clip for clip.

# %%
clips = judge.by_clip(fits[layer], test, layer, data.clips.iloc[data.split.test])
prices = judge.prices(clips, names)
prices.style.format("{:.3f}")

# %% mystnb={"figure": {"name": "fig-05-classes", "caption": "Relative error of the optimum per class, main layer, test clips, with 95 % intervals over source recordings, whose number stands in brackets: over few of them an interval is too short. Dotted: all test clips."}, "image": {"alt": "A dot with a horizontal bar per class, sorted from the largest error at the top to the smallest."}}
by_class = judge.errors_by_class(clips, "optimum")
by_class.index = [f"{name} ({n})" for name, n in by_class.recordings.items()]
label = "relative error of the optimum, test clips"
figure = interval_rows(by_class, "error", label, carried.loc[layer, "error"])

# %% [markdown]
# ### Other losses
#
# Squared error hears the loud bands. Kullback-Leibler weighs them less, Itakura-Saito not at all: a
# band 40 dB down counts like the loudest. Every model under every loss, judged by all three on test
# clips, relative to the training clips' mean spectrum: below 1 is better than that, above 1 worse.

# %%
losses = judge.by_loss(train, test, layer, fits[layer].scale, settings.dictionaries, seed)
losses.rename_axis(["fitted by", "model"]).style.format("{:.2f}")

# %% [markdown]
# ## The learned functions
#
# Atoms of the main layer, sorted by centre. Rows of $H$ are on one level, so an atom whose highest
# weight stays below a hundredth of the highest of all adds next to nothing. These are left out here:
# of {glue:text}`n_atoms:d` free atoms {glue:text}`used_linear:d` are in use.

# %%
w_final = {name: trace.snapshots[-1] for name, trace in fits[layer].traces.items()}
order = {name: atoms.sort_by_centre(w) for name, w in w_final.items()}
order = {name: each[atoms.used(w_final[name])[each]] for name, each in order.items()}

# %% mystnb={"figure": {"name": "fig-05-functions-linear", "caption": "LinearNoBiasSoftplus: learned atoms, some as curves (left), all (right), each divided by its own peak. Answers thesis figure 4.12."}, "image": {"alt": "Left: spectra with several peaks each. Right: a heat map with a diffuse diagonal and much structure off it."}}
name = "LinearNoBiasSoftplus"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-functions-basis", "caption": "MelBasisTransform: fixed Gaussians whose heights are all that was learned, on one scale. Answers thesis figure 4.13."}, "image": {"alt": "Left: bells of very different heights in a row. Right: a diagonal, bright at some places and dark at others."}}
name = "MelBasisTransform"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end, heights=True)

# %% mystnb={"figure": {"name": "fig-05-functions-triangles", "caption": "MelConstrainedLinear: triangles with learned centres and widths, each divided by its own peak. Answers thesis figure 4.14."}, "image": {"alt": "Left: triangles of different widths. Right: a diagonal band whose thickness varies between atoms."}}
name = "MelConstrainedLinear"
figure = figures.functions(w_final[name][:, order[name]], name, settings.front_end)

# %% [markdown]
# ## How they came about
#
# Thesis appendix A shows filters and heat map every 20 epochs for each model in 88 figures. Here a
# column is an epoch, all columns of a model on one scale; below each, the same at full size, with a
# slider.

# %% mystnb={"figure": {"name": "fig-05-trace-linear", "caption": "LinearNoBiasSoftplus every 20 epochs: filters above, heat map below, on one scale (1: the peak that one atom in twenty exceeds at the end). Answers thesis figures A.2 to A.31."}, "image": {"alt": "Ten columns from epoch 20 to 200. The curves and heat maps grow peaks in the early columns and hardly change in the late ones."}}
traces = {n: trace.snapshots[:, :, order[n]] for n, trace in fits[layer].traces.items()}
epochs = fits[layer].traces[names[0]].epochs
figure = figures.trace(traces["LinearNoBiasSoftplus"], epochs, settings.front_end)

# %% tags=["hide-input"]
def full_size(name):
    caption = f"{name} at full size, every {settings.dictionaries.trace_every} epochs."
    return slider.trace_slider(traces[name], epochs, name, settings.front_end, caption)


full_size("LinearNoBiasSoftplus")

# %% mystnb={"figure": {"name": "fig-05-trace-triangles", "caption": "MelConstrainedLinear every 20 epochs: centres and widths move. Answers thesis figures A.32 to A.61, whose captions name the wrong model."}, "image": {"alt": "Ten columns of triangles above and of a diagonal band below, from epoch 20 to 200, settling towards the right."}}
figure = figures.trace(traces["MelConstrainedLinear"], epochs, settings.front_end)

# %% tags=["hide-input"]
full_size("MelConstrainedLinear")

# %% mystnb={"figure": {"name": "fig-05-trace-basis", "caption": "MelBasisTransform every 20 epochs: only heights change. Answers thesis figures A.62 to A.89, whose captions name the wrong model."}, "image": {"alt": "Ten columns of bells above and of a diagonal below; places stay and brightness changes."}}
figure = figures.trace(traces["MelBasisTransform"], epochs, settings.front_end)

# %% tags=["hide-input"]
full_size("MelBasisTransform")

# %% [markdown]
# ## What the dictionaries rebuild
#
# Test clips of different classes: the target $V$ on the layer's time grid and each model's $WH$.

# %%
test_clips = data.clips.iloc[data.split.test]
_, first = np.unique(test_clips.label, return_index=True)
shown = first[:: max(1, len(first) // n_examples)][:n_examples]
h = test.h[layer][shown].double() * fits[layer].scale[:, None]
target = test.v(layer)[shown].numpy()
rebuilt = {name: (w @ h).numpy() for name, w in fits[layer].dictionaries().items()}
titles = test_clips.category.iloc[shown].tolist()

# %% mystnb={"figure": {"name": "fig-05-activations", "caption": "Target magnitude and reconstructions from the main layer's H for test clips of several classes, one colour scale. Answers thesis figure 4.11."}, "image": {"alt": "A grid with a row per clip: the target spectrogram on the left, then three constrained reconstructions and the optimum, blurrier in frequency than the target."}}
figure = figures.reconstructions(target, rebuilt, titles, settings.front_end)

# %% mystnb={"figure": {"name": "fig-05-prediction", "caption": "One clip close up: target, the three models and the optimum. Answers thesis figure 4.18."}, "image": {"alt": "Five spectrograms in a row on one colour scale."}}
figure = figures.reconstructions(
    target[:1], {n: v[:1] for n, v in rebuilt.items()}, titles[:1], settings.front_end
)

# %% mystnb={"figure": {"name": "fig-05-patterns", "caption": "Mean spectrum over all test clips: the target's, and what each model puts in its place. Answers thesis figure 4.19."}, "image": {"alt": "Four lines over frequency: the target mean spectrum, two models that follow it and one that may miss its shape."}}
sums = test.statistics[layer].scaled(fits[layer].scale)
mean = {n: w @ (sums.sum_h / sums.n_frames).numpy() for n, w in w_final.items()}
mean = {"target": (sums.sum_v / sums.n_frames).numpy(), **mean}
figure = figures.patterns(mean, settings.front_end)

# %% [markdown]
# The thesis describes these pictures in words: energy pushed to mid and high bands, smoothness,
# noise and artefacts. As numbers, on all test clips:

# %%
character = judge.character(fits[layer], test, layer)
character.style.format("{:.3f}", na_rep="")

# %% [markdown]
# ## Do the atoms match the sources?
#
# The procedural clips are made of twelve sources of known spectrum. Each source gets the atom that
# resembles it most, none twice, and the cosine similarity is averaged; the same for dictionaries
# over the untrained network's $H$, which says what many atoms reach by their number: where the
# trained column is no larger, training has not turned channels into sources.

# %%
truth, templates = None, None
if settings.procedural:
    templates = atoms.source_templates(front_end)
    first = hidden["untrained", "train"].statistics[layer]
    other = dictionaries.fit_layer(first, settings.dictionaries, seed, smoothness=chosen)
    found = {
        network: {n: atoms.match(w.numpy(), templates) for n, w in each.dictionaries().items()}
        for network, each in (("trained", fits[layer]), ("untrained", other))
    }
    truth = pd.DataFrame(
        {k: {n: m.cosine.mean() for n, m in v.items()} for k, v in found.items()}
    )
    display(truth.style.format("{:.3f}"))
else:
    display(Markdown("*Recordings: nobody knows their sources' spectra. See the demo profile.*"))

# %% tags=["hide-input"]
if settings.procedural:
    best = found["trained"]["optimum"]
    display(figures.matches(templates, fits[layer].optimum.numpy(), best, settings.front_end))

# %% [markdown]
# ## Atoms and groups of classes
#
# The thesis names filters for speech, music, noise, animals and machinery, which are not ESC-50's
# categories. Our mapping stands in `esc_lib/data/esc50.py`; clips that fit none are left out,
# and procedural clips keep their own classes. The use of an atom in a clip is its mean activation
# times its norm; its score for a group is the difference between the group's mean use and the
# others', in standard deviations. A negative score means *less used*: the activations themselves
# are never negative, whatever the thesis reads from its plots. Whether a score could be chance is
# decided by dealing the groups out anew to whole source recordings, many times, and asking how
# often *any* atom and group then scores as high: grey bars do not pass (5 %).

# %%
train_clips = data.clips.iloc[data.split.train]
mean_h = train.h[layer].mean(dim=2).numpy() * fits[layer].scale.numpy()
bands_hz = mel_frequencies_hz(settings.front_end).numpy()
centres = {n: atoms.centre_hz(w, bands_hz) for n, w in w_final.items()}
use = {n: mean_h * np.linalg.norm(w, axis=0) for n, w in w_final.items()}
group = thesis_group(train_clips).to_numpy()
scores = {n: atoms.group_scores(each, group) for n, each in use.items()}
chance = atoms.significance(use[names[0]], group, train_clips.src_file.to_numpy())
significant = int((chance < 0.05).to_numpy().sum())

# %% mystnb={"figure": {"name": "fig-05-groups-basis", "caption": "MelBasisTransform: the atoms whose use differs most between a group and the rest, training clips; grey: not significant. Atom number and centre below. Answers thesis figure 4.15."}, "image": {"alt": "One small bar chart per group with six bars, up for atoms used more and hatched down for atoms used less than elsewhere."}}
name = "MelBasisTransform"
figure = figures.group_atoms(scores[name], chance, centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-linear", "caption": "LinearNoBiasSoftplus, likewise. Answers thesis figure 4.16. The bars equal those of the other models: H is the same, and only the centre printed below each bar comes from W."}, "image": {"alt": "One small bar chart per group with the same bars as the figure before and other centre frequencies."}}
name = "LinearNoBiasSoftplus"
figure = figures.group_atoms(scores[name], chance, centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-triangles", "caption": "MelConstrainedLinear, likewise. Answers thesis figure 4.17."}, "image": {"alt": "One small bar chart per group with six bars each and centre frequencies below."}}
name = "MelConstrainedLinear"
figure = figures.group_atoms(scores[name], chance, centres[name], name)

# %% [markdown]
# The same for ESC-50's own five major categories (procedural clips: their classes again).

# %% mystnb={"figure": {"name": "fig-05-majors", "caption": "Atoms and ESC-50's major categories, centres from LinearNoBiasSoftplus; grey: not significant."}, "image": {"alt": "One small bar chart per major category with six bars each and centre frequencies below."}}
name = "LinearNoBiasSoftplus"
major = major_category(train_clips).to_numpy()
major_scores = atoms.group_scores(use[name], major)
major_chance = atoms.significance(use[name], major, train_clips.src_file.to_numpy())
figure = figures.group_atoms(major_scores, major_chance, centres[name], name)

# %% tags=["hide-input"]
np.savez_compressed(
    chapter.folder / "dictionaries.npz",
    **{f"{block}/scale": fits[block].scale.numpy() for block in BLOCKS},
    **{
        f"{block}/{name}": w.float().numpy()
        for block in BLOCKS
        for name, w in fits[block].dictionaries().items()
    },
)
n_test = len(data.split.test)
columns = {
    "err_linear": "LinearNoBiasSoftplus",
    "err_triangles": "MelConstrainedLinear",
    "err_gaussians": "MelBasisTransform",
    "err_optimum": "optimum",
    "err_free_nmf": "free NMF",
    "err_random_network": "optimum, untrained H",
    "err_noise": "optimum, noise H",
    "err_mean_spectrum": "mean spectrum",
}

# %% tags=["hide-input"]
metrics = {key: Metric(float(table.loc[layer, c]), "", n_test) for key, c in columns.items()}
for i, block in enumerate(BLOCKS, 1):
    metrics |= {f"err_optimum_block{i}": Metric(float(table.loc[block, "optimum"]), "", n_test)}
for key, name in (("linear", names[0]), ("triangles", names[1]), ("gaussians", names[2])):
    price, low, high = prices.loc[name]
    metrics |= {
        f"price_{key}": Metric(price, "", n_test, (low, high)),
        f"step_{key}": character.loc[name, "step between bands"],
        f"surplus_{key}": character.loc[name, "surplus"],
        f"upper_{key}": character.loc[name, "energy above the middle"],
    }
metrics |= {
    "upper_target": character.loc["V", "energy above the middle"],
    "layer": layer,
    "smoothness": chosen,
    "above_optimum_pct": Metric(100 * above[layer], "%"),
    "above_optimum_worst_pct": Metric(100 * max(above.values()), "%"),
    "n_atoms": len(use[names[0]][0]),
    "used_linear": len(order["LinearNoBiasSoftplus"]),
    "groups_significant": Metric(significant, "", chance.size),
    "groups_tested": chance.size,
}
tables = {"held_out_errors": table, "prices": prices, "losses": losses}
chapter.publish(metrics, **tables, **({} if truth is None else {"truth": truth}))

# %% [markdown]
# ## What the thesis reads from its pictures
#
# ... and what the numbers of this run say.
#
# *MelBasisTransform pushes energy to mid and high bands* (thesis, 4.3.2). Share of the energy in
# the upper half of the mel bands: target {glue:text}`upper_target:.3f`, MelBasisTransform
# {glue:text}`upper_gaussians:.3f`, MelConstrainedLinear {glue:text}`upper_triangles:.3f`,
# LinearNoBiasSoftplus {glue:text}`upper_linear:.3f`. The claim holds where the second number is
# clearly above the first.
#
# *LinearNoBiasSoftplus responds smoothly* (thesis, 4.3.2). Its steps between neighbouring bands are
# {glue:text}`step_linear:.2f` of its own size, those of the triangles
# {glue:text}`step_triangles:.2f`, of the Gaussians {glue:text}`step_gaussians:.2f`: a smaller number
# is a smoother atom, and nothing makes the free atoms the smoothest.
#
# *Without a constraint come artefacts, and the fixed basis is the effective compromise* (thesis,
# 4.3.4). The energy that an output has too much, relative to the target's:
# {glue:text}`surplus_linear:.3f` for free atoms, {glue:text}`surplus_triangles:.3f` for triangles,
# {glue:text}`surplus_gaussians:.3f` for the fixed basis. The basis also pays most in error, since
# nothing ties channel $k$ to the $k$-th frequency.
#
# *Each model finds its own filters for a group of classes* (thesis, 4.3.3). It cannot: which atoms
# tell a group apart is decided by $H$ alone, which the three models share.
#
# ## What we learned
#
# - With the $H$ of {glue:text}`layer`, the best non-negative dictionary leaves a relative error of
#   {glue:text}`err_optimum:.3f` on clips it has not seen; the mean spectrum alone
#   {glue:text}`err_mean_spectrum:.3f`, noise in the place of $H$ {glue:text}`err_noise:.3f`, and the
#   $H$ of a random network {glue:text}`err_random_network:.3f`. Training put there what lies
#   between the first and the last of these; where the last is the smaller one, training has taken
#   spectrum away.
# - Fitted without a penalty, the free dictionary ends {glue:text}`above_optimum_pct:.1f` % above the
#   least error possible on its training clips ({glue:text}`above_optimum_worst_pct:.1f` % in the
#   worst layer). The penalty's weight with the least validation error is
#   {glue:text}`smoothness:.2g`. Of {glue:text}`n_atoms:d` channels the free dictionary uses
#   {glue:text}`used_linear:d`: the spectrum sits in few of them.
# - On test clips the constraints cost {glue:text}`price_linear:.3f` times the optimum's error for
#   free atoms, {glue:text}`price_triangles:.3f` times for triangles and
#   {glue:text}`price_gaussians:.3f` times for fixed Gaussians.
# - Of {glue:text}`groups_tested:,d` pairs of atom and group, {glue:text}`groups_significant:,d` pass a
#   test against chance.
#
# ## Exercises
#
# 1. Predict which layer gives the lowest held-out error, then look at {numref}`fig-05-layers`.
# 2. Set `reduction` to `max`: maps are then reduced to their loudest band. Does the deep layers'
#    advantage survive?
# 3. Before you look at {numref}`fig-05-classes`: which classes will be hardest to rebuild from the
#    network's channels, steady sounds or short ones?
