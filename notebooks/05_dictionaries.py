# %% [markdown]
# # Dictionaries over hidden activations
#
# **Question: what does a hidden layer hold of a sound's spectrum that its loudness, its label, or
# random filters do not give as well?**
#
# $V \approx WH$ with $H$ read from the network and only $W$ learned, under the thesis's three
# constraints; then the same with the hidden layer taken away, with networks that were never trained,
# and with level taken out of both sides. Mirrors sections 3.8 and 4.3 and appendix A of the thesis
# (figures 4.11 to 4.19, A.1 to A.89).
#
# **What was found** in this run. A difference counts where its 95 % interval over source recordings
# lies on one side of zero.
#
# - *Against loudness.* Compared with one number a frame, how loud it is, the best dictionary over the
#   hidden layers has {glue:text}`loudness_words`. In {glue:text}`layer` its relative error is
#   {glue:text}`err_optimum:.3f` ({glue:text}`err_optimum_low:.3f` to
#   {glue:text}`err_optimum_high:.3f`), that of loudness {glue:text}`err_frame:.3f`, and that of one
#   spectrum a class, for which the label has to be known, {glue:text}`err_class:.3f`.
# - *Against random filters.* Compared with {glue:text}`n_untrained:d` networks of random weights, the
#   trained one has {glue:text}`training_words`.
# - *With level taken away.* Of the shape of a spectrum the trained network explains, compared with
#   them, {glue:text}`shape_words`; read by {glue:text}`n_few:d` principal components each,
#   {glue:text}`few_words`.
# - *Groups of classes.* Where chance is what groups dealt out over classes give,
#   {glue:text}`groups_words`.
#
# Before it: {doc}`03_training`. Run time: under a minute for the procedural clips; minutes for
# recordings, once the layers have been read.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_examples = 4  # test clips shown
n_untrained = 5  # networks of random weights that the trained one is compared with
reduction = "mean"  # of a map over frequency, to one value per frame: mean or max

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from tqdm import tqdm

from esc_lib import dictionaries
from esc_lib.config import variant
from esc_lib.data import major_category, thesis_group
from esc_lib.dictionaries import atoms, controls, judge, level_free, stand_ins
from esc_lib.evaluation import source_draws
from esc_lib.figures import dictionaries as figures
from esc_lib.figures import style
from esc_lib.figures.html import slider
from esc_lib.models import BLOCKS
from esc_lib.sound import mel_frequencies_hz
from esc_lib.study import Chapter, Metric, source
from esc_lib.training import initial_model

chapter = Chapter("05_dictionaries", profile, artifacts)
settings, data, model = chapter.settings, chapter.data, chapter.model
device, front_end = chapter.device, chapter.front_end
layer, seed = settings.dictionaries.layer, settings.training.seed
test_clips = data.clips.iloc[data.split.test]
draws = source_draws(test_clips.src_file.to_numpy())

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
# $H$ is a block's output (after ReLU and pooling), averaged over frequency: one row per channel, one
# column per frame of the layer. $V$ is averaged to the same frames. One pass over the clips collects
# it, with the sums that the fits need, $HH^\top$, $VH^\top$ and $\lVert V\rVert^2$
# ({doc}`../methods`). The same is read from networks of the same shape whose weights are random, one
# a seed: what they hold, training need not have put there.

# %% tags=["remove-stderr"]
hidden = {
    part: dictionaries.gather_once(
        chapter.cache / f"hidden_trained_{part}.pt", model.to(device), front_end, data,
        getattr(data.split, part), BLOCKS, keep=BLOCKS, reduction=reduction,
    )
    for part in style.PARTS
}  # fmt: skip
others = []
for number in range(n_untrained):
    net = initial_model(variant(settings, seed=number), len(data.class_names)).to(device).eval()
    place = chapter.cache / f"untrained_seed{number}.pt"
    others.append(dictionaries.untrained.read_once(place, net, front_end, data, BLOCKS, reduction))
train, validation, test = (hidden[part] for part in style.PARTS)

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

# %% [markdown]
# The thesis adds a penalty on differences between adjacent bands and does not give its weight. Here
# the free dictionary of the main layer is fitted with several, on training clips, and the weight of
# least error on *validation* clips is taken for all models.

# %%
tried = dictionaries.try_smoothness(
    train.statistics[layer], validation.statistics[layer], settings.dictionaries, seed
)
chosen = float(tried.validation.idxmin())

# %% mystnb={"figure": {"name": "fig-05-smoothness", "caption": "The smoothness penalty at work on the free dictionary of the main layer. Left: relative error on the clips it was fitted to and on validation clips. Right: the root mean square step between neighbouring bands, relative to W's root mean square."}, "image": {"alt": "Left: two curves over the weight of the penalty, training error rising with the weight. Right: the step between bands falling as the weight grows. A dotted vertical line marks the weight that was taken."}}
figure = figures.smoothness(tried, chosen)

# %% tags=["remove-stderr"]
fits = {
    name: dictionaries.fit_layer(
        train.statistics[name], settings.dictionaries, seed, smoothness=chosen
    )
    for name in tqdm(BLOCKS, desc="fitting")
}
names = list(fits[layer].traces)

# %% mystnb={"figure": {"name": "fig-05-learning", "caption": "Relative error on the training clips per epoch, main layer, above the least error that any non-negative W can reach with this H."}, "image": {"alt": "Three falling curves over 200 epochs; the free dictionary approaches the horizontal line of the optimum, the two constrained ones stay above it."}}
curves = {name: trace.errors for name, trace in fits[layer].traces.items()}
least = fits[layer].errors(train.statistics[layer])["optimum"]
figure = figures.learning(curves, least)

# %% [markdown]
# ## The hidden layer taken away
#
# Relative error $\lVert V - WH\rVert / \lVert V\rVert$ on test clips, with 95 % intervals from a
# bootstrap over their source recordings. An error says something of a layer only beside what is had
# without one, so other things stand in the place of $H$: 1, the loudness of the clip or of the frame
# (the mean of $V$ over bands), and the clip's label. What each of them knows of a clip is in the
# table. The label is more than any layer is told: *class spectra* could not be had for an unknown
# clip.

# %% tags=["remove-stderr"]
tables = {
    name: judge.by_clip(fits[name], name, hidden, data).join(level_free.read(hidden, name))
    for name in tqdm(BLOCKS, desc="judging")
}
ways = [*names, "optimum", *stand_ins.KNOWS]
errors = {name: judge.scores(table, ways, "energy", draws) for name, table in tables.items()}
errors = pd.concat(errors, names=["layer", "W and H"])
knows = {name: f"{len(fits[layer].scale)} numbers a frame" for name in (*names, "optimum")}
shown = errors.loc[layer].assign(knows=pd.Series(knows | stand_ins.KNOWS))
shown.style.format("{:.3f}", subset=["value", "low", "high"])

# %%
untrained = [{name: one.errors for name, one in each.items()} for each in others]
compared = {"err": controls.compare_layers(tables, untrained, controls.ERROR, draws)}
better, worse = "a smaller error", "a larger error"
words = {"training_words": controls.in_words(compared["err"], worse, better)}
stand_in = {"loudness_words": stand_ins.FRAME, "label_words": stand_ins.CLASS}
for key, name in stand_in.items():
    beside = controls.compare_layers(tables, [tables], controls.ERROR, draws, against=name)
    words |= {key: controls.in_words(beside, worse, better)}

# %% mystnb={"figure": {"name": "fig-05-layers", "caption": "Relative error of the best non-negative dictionary on test clips: trained network with 95 % interval over source recordings, untrained networks with their range, and what is had without a layer (grey). Lower is better. An H that follows the sound only in level ends where loudness does."}, "image": {"alt": "Five blocks along the axis; for each a dot with a bar for the trained network and a square with a bar for the untrained ones, among four grey lines, one for each thing that stands in for the layer."}}
flat = errors.value.unstack()[list(stand_ins.KNOWS)]
figure = figures.beside_stand_ins(compared["err"], flat, "relative error, test clips")

# %% [markdown]
# Compared with the loudness of each frame, the trained network's blocks have
# {glue:text}`loudness_words`; with class spectra, {glue:text}`label_words`; with untrained networks,
# {glue:text}`training_words`.
#
# ## Level taken away
#
# How loud a frame is makes part of $V$, and any channel follows it. So each frame of $V$ is read in
# dB, less its mean over bands: the *shape* of its spectrum. What makes it:

# %% tags=["hide-input"]
source(level_free.shapes)

# %% [markdown]
# A ridge regression reads shapes from $H$, its weight chosen on validation clips; $R^2$ is the share
# of the shapes' variance over the mean training shape that it explains on test clips. Beside it
# stands the thesis's own model, $W \ge 0$, with $V$ and $H$ at norm 1 in every frame. A trained layer
# may merely have fewer directions: so trained and untrained are also read by as many principal
# components of $H$ each.

# %% tags=["remove-stderr"]
measures = {"shape": controls.SHAPE, "few": controls.FEW, "unit": controls.UNIT}
for key, measure in measures.items():
    compared[key] = controls.compare_layers(tables, untrained, measure, draws)
    words |= {f"{key}_words": controls.in_words(compared[key], "more", "less")}
pd.concat(compared, names=["measure"]).style.format("{:.3f}")

# %% mystnb={"figure": {"name": "fig-05-level-free", "caption": "What a layer holds of the spectrum's shape, trained (dots; 95 % interval over source recordings) and untrained (squares; range over seeds). Left: ridge regression to shapes in dB. Middle: the same from 16 principal components. Right: the thesis's non-negative fit with every frame at norm 1. Further right is more; whether two differ is said by the paired difference in the table, not by bars that overlap."}, "image": {"alt": "Three panels with a row per block, each with a dot and a square on bars; the text names the rows in which the dot lies beyond the square, and those in which it falls short."}}
labels = ("$R^2$ of the shape", f"... by {level_free.FEW} components", "$R^2$, unit frames, $W \\geq 0$")
figure = figures.trained_and_untrained(
    dict(zip(labels, (compared[key] for key in measures), strict=True))
)

# %% mystnb={"figure": {"name": "fig-05-components", "caption": "R² of the shape by 2, 4, 8 ... principal components of H, and by all of it. Bands: 95 % interval over source recordings (trained), range over seeds (untrained). Curves that part only at the right say that one layer has more directions; curves that part at the left, that its strongest directions say more of the spectrum."}, "image": {"alt": "Five panels, one a block, each with two rising curves over the number of components, trained and untrained."}}
curves = {
    name: controls.compare_components(
        table, [one[name] for one in untrained], len(fits[name].scale), draws
    )
    for name, table in tables.items()
}
figure = figures.components(curves)

# %%
read = tables[layer][[level_free.MEAN_SHAPE, level_free.RIDGE]]
read = level_free.read_stand_ins(hidden, layer, data).join(read)
ways = read.columns.drop(level_free.MEAN_SHAPE)
shapes = judge.scores(read, ways, level_free.MEAN_SHAPE, draws, controls.explained)
shapes.rename_axis(f"R² of the shape, {layer}").style.format("{:.3f}")

# %% [markdown]
# Compared with untrained networks, the trained one's blocks explain {glue:text}`shape_words` of the
# shape; read by {glue:text}`n_few:d` components each, {glue:text}`few_words`. Of frames at norm 1 the
# thesis's model explains {glue:text}`unit_words`. The table above says what a shape owes to loudness
# or label: its rows are read by the same regression, the last from the layer itself.
#
# ## The price of a constraint
#
# Each model's error on the test clips as a multiple of the optimum's, main layer, clip for clip.

# %%
prices = judge.scores(tables[layer], names, "optimum", draws)
prices.style.format("{:.3f}")

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
made = judge.outputs(fits[layer], test, layer)
character = judge.character(fits[layer], made)
character.style.format("{:.3f}", na_rep="")

# %% [markdown]
# ## Do the atoms match the sources?
#
# The procedural clips are made of twelve sources of known spectrum. Each source gets the atom of the
# optimum that resembles it most, none twice; their cosine similarity, averaged over sources, stands
# beside that of the untrained networks' optima, which says what many atoms reach by their number. The
# interval is over sources.

# %%
truth, templates = None, None
if settings.procedural:
    templates = atoms.source_templates(front_end)
    best = atoms.match(fits[layer].optimum.numpy(), templates)
    chance = [atoms.match(one[layer].w.numpy(), templates).cosine for one in others]
    truth, said = controls.compare_matches(best.cosine, chance)
    display(truth.to_frame("mean cosine").T.style.format("{:.3f}"))
    display(Markdown(f"Trained, compared with untrained: {said}."))
else:
    display(Markdown("*Recordings: nobody knows their sources' spectra. See the demo profile.*"))

# %% tags=["hide-input"]
if settings.procedural:
    display(figures.matches(templates, fits[layer].optimum.numpy(), best, settings.front_end))

# %% [markdown]
# ## Atoms and groups of classes
#
# The thesis names filters for speech, music, noise, animals and machinery, which are not ESC-50's
# categories. Our mapping stands in `esc_lib/data/esc50.py`; classes that fit none are left out, and
# procedural clips keep their own classes. The use of an atom in a clip is its mean activation; its
# score for a group is the mean over the group's classes less that over the others, in standard
# deviations over classes. A negative score means *less used*: the activations themselves are never
# negative, whatever the thesis reads from its plots.
#
# A group is a set of classes, and any set of classes differs from the rest in something. So chance is
# what groups dealt out anew to *whole classes* give, and a score has to beat the largest of *any* atom
# and group in such a deal: grey bars do not (5 %). How small a p-value can get at all depends on the
# number of classes, and stands in the table beside what was found.

# %%
train_clips = data.clips.iloc[data.split.train]
group, classes = thesis_group(train_clips).to_numpy(), train_clips.category.to_numpy()
use = train.h[layer].mean(dim=2).numpy()
scores = atoms.group_scores(use, group, classes)
chance = atoms.significance(use, group, classes)
least_p = atoms.least_p(group, classes)
words |= {"groups_words": atoms.verdict(chance, least_p)}
bands_hz = mel_frequencies_hz(settings.front_end).numpy()
centres = {n: atoms.centre_hz(w, bands_hz) for n, w in w_final.items()}

# %%
groupings = {"thesis's groups": group, "major categories": major_category(train_clips).to_numpy()}
uses = [use, *(one[layer].use.numpy() for one in others)]
passing = {name: atoms.passing(uses, each, classes) for name, each in groupings.items()}
passing = pd.DataFrame.from_dict(passing, orient="index")
passing.style.format({"least p possible": "{:.2g}"})

# %% mystnb={"figure": {"name": "fig-05-groups-basis", "caption": "MelBasisTransform: the atoms whose use differs most between a group and the rest, training clips; grey: no more than a deal of groups over classes gives (5 %). Atom number and centre below. Answers thesis figure 4.15."}, "image": {"alt": "One small bar chart per group with six bars, up for atoms used more and hatched down for atoms used less than elsewhere."}}
name = "MelBasisTransform"
figure = figures.group_atoms(scores, chance, centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-linear", "caption": "LinearNoBiasSoftplus, likewise. Answers thesis figure 4.16. The bars equal those of the other models: H is the same, and only the centre printed below each bar comes from W."}, "image": {"alt": "One small bar chart per group with the same bars as the figure before and other centre frequencies."}}
name = "LinearNoBiasSoftplus"
figure = figures.group_atoms(scores, chance, centres[name], name)

# %% mystnb={"figure": {"name": "fig-05-groups-triangles", "caption": "MelConstrainedLinear, likewise. Answers thesis figure 4.17."}, "image": {"alt": "One small bar chart per group with six bars each and centre frequencies below."}}
name = "MelConstrainedLinear"
figure = figures.group_atoms(scores, chance, centres[name], name)

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
columns = {
    "err_linear": "LinearNoBiasSoftplus",
    "err_triangles": "MelConstrainedLinear",
    "err_gaussians": "MelBasisTransform",
    "err_optimum": "optimum",
    "err_mean_spectrum": stand_ins.MEAN,
    "err_clip": stand_ins.CLIP,
    "err_frame": stand_ins.FRAME,
    "err_class": stand_ins.CLASS,
}

# %% tags=["hide-input"]
n_test = len(data.split.test)


def metric(row, value="value", low="low", high="high"):
    return Metric(row[value], "", n_test, (row[low], row[high]))


metrics = {key: metric(errors.loc[layer, name]) for key, name in columns.items()}
for key, table in compared.items():
    for number, (_, row) in enumerate(table.iterrows(), 1):
        metrics |= {
            f"{key}_block{number}": metric(row),
            f"{key}_untrained_block{number}": metric(row, "others", "least", "most"),
            f"{key}_gap_block{number}": metric(
                row, "difference", "difference_low", "difference_high"
            ),
        }

# %% tags=["hide-input"]
linear, triangles, gaussians = names
upper = controls.compare(made[gaussians], [made["V"]], controls.UPPER, draws)
surplus = controls.compare(made[linear], [made[gaussians]], controls.SURPLUS, draws)
ends = ("difference_low", "difference_high")
words |= {
    "upper_words": controls.verdict(*(upper[end] for end in ends), "more", "less"),
    "surplus_words": controls.verdict(*(surplus[end] for end in ends), "more", "less"),
    "smoothest": character["step between bands"].drop("optimum").idxmin(),
    "dearest": prices.value.idxmax(),
}
for key, name in (("linear", linear), ("triangles", triangles), ("gaussians", gaussians)):
    metrics |= {
        f"price_{key}": metric(prices.loc[name]),
        f"step_{key}": character.loc[name, "step between bands"],
        f"surplus_{key}": character.loc[name, "surplus"],
        f"upper_{key}": character.loc[name, "upper"],
    }

# %% tags=["hide-input"]
loss, gain = compared["err"].loc[layer], compared["shape"].loc[layer]
metrics |= {
    "err_random_network": metric(loss, "others", "least", "most"),
    "shape_layer": metric(shapes.loc[level_free.RIDGE]),
    "shape_random_pct": Metric(100 * gain.others / gain.value, "%"),
    "shape_frame": metric(shapes.loc[stand_ins.FRAME]),
    "shape_class": metric(shapes.loc[stand_ins.CLASS]),
    "upper_target": character.loc["V", "upper"],
    "layer": layer,
    "n_untrained": n_untrained,
    "n_few": level_free.FEW,
    "smoothness": chosen,
    "above_optimum_pct": Metric(100 * (tried.train[0.0] / least - 1), "%"),
    "n_atoms": use.shape[1],
    "used_linear": len(order[linear]),
    "groups_significant": Metric(int(passing.trained.iloc[0]), "", chance.size),
    "groups_tested": chance.size,
    "groups_untrained": Metric(passing.iloc[0]["untrained, most"], "", chance.size),
    "groups_least_p": least_p.min(),
}
levels = pd.concat(compared, names=["measure"])
kept = {"held_out_errors": errors, "compared": levels, "prices": prices, "groups": passing}
chapter.publish(metrics | words, **kept)

# %% [markdown]
# ## What the thesis reads from its pictures
#
# ... and what the numbers of this run say.
#
# *MelBasisTransform pushes energy to mid and high bands* (thesis, 4.3.2). The share of its output's
# energy in the upper half of the mel bands, {glue:text}`upper_gaussians:.3f`, beside that of the
# target, {glue:text}`upper_target:.3f`: {glue:text}`upper_words`. (MelConstrainedLinear:
# {glue:text}`upper_triangles:.3f`, LinearNoBiasSoftplus: {glue:text}`upper_linear:.3f`.)
#
# *LinearNoBiasSoftplus responds smoothly* (thesis, 4.3.2). Its steps between neighbouring bands are
# {glue:text}`step_linear:.2f` of its own size, those of the triangles
# {glue:text}`step_triangles:.2f`, of the Gaussians {glue:text}`step_gaussians:.2f`: the smoothest are
# those of {glue:text}`smoothest`.
#
# *Without a constraint come artefacts, and the fixed basis is the effective compromise* (thesis,
# 4.3.4). The energy that an output has too much, relative to the target's, is
# {glue:text}`surplus_linear:.3f` for free atoms and {glue:text}`surplus_gaussians:.3f` for the fixed
# basis (triangles: {glue:text}`surplus_triangles:.3f`), so that free atoms add, compared with it:
# {glue:text}`surplus_words`. The dearest in error is {glue:text}`dearest`.
#
# *Each model finds its own filters for a group of classes* (thesis, 4.3.3). It cannot: which atoms
# tell a group apart is decided by $H$ alone, which the three models share. And of what $H$ says of
# groups: {glue:text}`groups_words`.
#
# ## What we learned
#
# - An error of $WH$ says little until the layer is taken away. With the $H$ of {glue:text}`layer` the
#   best dictionary leaves {glue:text}`err_optimum:.3f`, untrained networks
#   {glue:text}`err_random_network:.3f`
#   ({glue:text}`err_random_network_low:.3f` to {glue:text}`err_random_network_high:.3f`), one number
#   a frame {glue:text}`err_frame:.3f`, one a clip {glue:text}`err_clip:.3f`, the mean spectrum
#   {glue:text}`err_mean_spectrum:.3f`. Compared with loudness per frame: {glue:text}`loudness_words`.
#   Compared with random filters: {glue:text}`training_words`.
# - With level taken away, the trained network explains, compared with random filters,
#   {glue:text}`shape_words` of the spectrum's shape; by equal numbers of components,
#   {glue:text}`few_words`. In {glue:text}`layer` random filters explain
#   {glue:text}`shape_random_pct:.0f` % of what the trained ones do.
# - Constraints cost, on test clips, {glue:text}`price_linear:.3f` times the optimum's error for free
#   atoms, {glue:text}`price_triangles:.3f` for triangles and {glue:text}`price_gaussians:.3f` for
#   fixed Gaussians. Of {glue:text}`n_atoms:d` channels the free dictionary uses
#   {glue:text}`used_linear:d`; without a penalty it ends {glue:text}`above_optimum_pct:.1f` % above
#   the least error on its training clips.
# - Of {glue:text}`groups_tested:,d` pairs of atom and group {glue:text}`groups_significant:,d` pass a
#   deal of groups over classes, in untrained networks at most {glue:text}`groups_untrained:,d`; with
#   these classes no p-value can fall below {glue:text}`groups_least_p:.2g`.
#
# ## Exercises
#
# 1. Before you look at {numref}`fig-05-components`: in which block will training have cost the most
#    directions?
# 2. Set `reduction` to `max`: maps are then reduced to their loudest band. Does any verdict of
#    {numref}`fig-05-level-free` change?
# 3. Give the class spectra a loudness per frame as well (`esc_lib/dictionaries/stand_ins.py`). Which
#    layers still beat them?
