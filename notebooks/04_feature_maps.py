# %% [markdown]
# # Feature maps, gates and embeddings
#
# **Question: what does each block pass on, what do the squeeze-and-excitation gates change, and
# from which layer on do classes lie apart?**
#
# One clip is followed through the five blocks and four gates of the trained network (figures 4.21
# to 4.30 of the thesis). Then the gates are compared over classes and forced to other values, and
# every layer's view of whole clips is laid out as a map to look around and listen in.
#
# Before it: {doc}`03_training`. Run time: under a minute for the procedural clips; minutes for the
# full network on a CPU.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_maps = 16  # maps shown per layer
n_clips = 400  # validation and test clips in the maps of embeddings, at most
n_sounds = 100  # test clips that can be heard there, at most

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib.data import major_category
from esc_lib.evaluation import source_draws
from esc_lib.figures import feature_maps as figures
from esc_lib.figures import features as feature_figures
from esc_lib.figures.html import explorer, player
from esc_lib.layers import embeddings, gates, record
from esc_lib.models import BLOCKS, GATES
from esc_lib.models.se_cnn import SqueezeExcitation
from esc_lib.study import Chapter, Metric, source

chapter = Chapter("04_feature_maps", profile, artifacts, needs=["umap"])
settings, data, model = chapter.settings, chapter.data, chapter.model
device, front_end = chapter.device, chapter.front_end
trained = chapter.read("03_training")
predictions = pd.read_csv(trained / "predictions.csv")
labels, sources = data.clips.label.to_numpy(), data.clips.src_file.to_numpy()

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
with record(model, [*BLOCKS, *GATES]) as maps, torch.no_grad():
    model(inputs)
caption = f"{clear.category}: {clear.filename} (fold {clear.fold})"
waveform = batch[0][0, : int(batch[1])].cpu().numpy()
player.captioned([player.Sound(waveform, caption)], settings.front_end.sr, settings.licence)

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
# A gate multiplies each channel by one number between 0 and 1 that depends on the whole clip:
# $g = \sigma(W_2 \max(0, W_1 [\bar x, \max x]))$, from each channel's mean and maximum.

# %% tags=["hide-input"]
source(SqueezeExcitation.gate)

# %% [markdown]
# A map keeps its shape; only its weight changes. Below are the same channels before and after each gate,
# the most active ones before it, from the one that is turned down most to the one that is kept
# best. Pairs share one colour scale per gate.


# %%
def pairs(gate):
    """Return maps before and after a gate, what it multiplied them by, and their channels."""
    before, channels = strongest(gates.BEFORE[gate])
    after, values = maps[gate][0].cpu().numpy()[channels], recalibrated[gate][2][channels]
    order = np.argsort(values)
    return before[order], after[order], values[order], channels[order]


recalibrated = {}
for gate, block in gates.BEFORE.items():
    with torch.no_grad():
        values = getattr(model, gate).gate(maps[block])[0].cpu().numpy()
    before, after = (maps[layer][0].mean(dim=(1, 2)).cpu().numpy() for layer in (block, gate))
    recalibrated[gate] = before, after, values

# %% mystnb={"figure": {"name": "fig-04-se1", "caption": "Block 2's most active channels before SE gate 1 and, below each, after it; the factor is the gate's value. Answers thesis figure 4.27."}, "image": {"alt": "Sixteen pairs of feature maps. The lower map of each pair has the shape of the upper one and is darker by the factor written above it."}}
figure = figures.gated(*pairs("se1"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se2", "caption": "Block 3's most active channels before SE gate 2 and, below each, after it. Answers thesis figure 4.28."}, "image": {"alt": "Sixteen pairs of coarser feature maps, the lower ones darker by the factor written above them."}}
figure = figures.gated(*pairs("se2"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se3", "caption": "Block 4's most active channels before SE gate 3 and, below each, after it. Answers thesis figure 4.29."}, "image": {"alt": "Sixteen pairs of feature maps with a handful of rows, the lower ones darker by the factor written above them."}}
figure = figures.gated(*pairs("se3"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-se4", "caption": "Block 5's most active channels before SE gate 4 and, below each, after it. Answers thesis figure 4.30."}, "image": {"alt": "Sixteen pairs of feature maps of a few large pixels, the lower ones darker by the factor written above them."}}
figure = figures.gated(*pairs("se4"), settings.front_end)

# %% mystnb={"figure": {"name": "fig-04-recalibration", "caption": "What the four gates do to all channels of the clip. Left: gate values, sorted; a gate with zero weights would stand at 0.5. Right: mean activation of each channel before and after."}, "image": {"alt": "Four rows of two panels: a sorted curve of gate values between 0 and 1, and a scatter plot of channel activation before and after the gate, below the diagonal."}}
figure = figures.recalibration(recalibrated)

# %% [markdown]
# ## Gates over classes
#
# If a gate carried class information, its values would differ between classes. Over all test clips:
# mean and spread; values below 0.05, which close a channel for the clip, and channels that are
# closed for every clip; values at exactly one half, which a gate gives when the ReLU silences all
# its hidden units, so that it says nothing about the clip; and the share of the variance that lies
# between classes.

# %% tags=["remove-stderr"]
test = data.split.test
test_gates = gates.se_gates(model, front_end, data, test)
described = gates.describe(test_gates, labels[test])
described.style.format("{:.2f}").format("{:.1f}", subset=[c for c in described if "%" in c])

# %% mystnb={"figure": {"name": "fig-04-gates", "caption": "Mean gate value per class (rows) and channel (columns, those that differ most between classes first), test clips, one colour scale."}, "image": {"alt": "Four heat maps side by side, one per gate, classes down and channels across; the left columns vary between classes, the right ones are uniform."}}
classes = np.arange(len(data.class_names))
means = {
    gate: np.stack([values[labels[test] == c].mean(axis=0) for c in classes])
    for gate, values in test_gates.items()
}
figure = figures.gates_per_class(means, data.class_names)

# %% [markdown]
# ## Gates forced
#
# What does the network lose when a gate no longer answers to the clip? Each gate, and all of them
# at once, are replaced by three constants: *mean*, each channel's mean gate value over training
# clips; *half*, 0.5 everywhere; *open*, 1 everywhere, as if there were no gate. A constant factor
# per channel could be part of the next convolution's weights and would cost nothing. So *mean* is
# the fair question: what is lost there is what a gate brings by looking at the clip. *Half* and
# *open* also take away weights that the layers behind have learned to count on.
#
# Whole clips, validation and test, none of them trained on. Differences are paired, clip by clip,
# and their intervals (95 %) come from drawing whole source recordings.

# %% tags=["remove-stderr"]
train_gates = gates.se_gates(model, front_end, data, data.split.train)
variants = gates.variants({gate: values.mean(axis=0) for gate, values in train_gates.items()})
forced = {}
for part in ("validation", "test"):
    rows = getattr(data.split, part)
    logits = gates.forced_logits(model, front_end, data, rows, variants)
    draws = source_draws(sources[rows])
    forced[part] = gates.compare(logits, labels[rows], draws)
columns = ["accuracy", "changed", "nll"]
together = pd.concat({part: table[columns] for part, table in forced.items()}, axis=1)
together.style.format(precision=1).format("{:.2f}", subset=[(part, "nll") for part in forced])

# %% mystnb={"figure": {"name": "fig-04-forced", "caption": "Forced gates against the network as trained: difference in accuracy (left) and in negative log-likelihood of the true class (right, linear between -1 and 1, logarithmic beyond), with 95 % intervals over source recordings."}, "image": {"alt": "Two panels with a row per forced gate and value and two dots with horizontal bars per row, for validation and test clips, against a vertical line at zero. Rows named mean stay near the line; the row of all gates open lies farthest from it."}}
figure = figures.forced({part: table.drop("as trained") for part, table in forced.items()})

# %% [markdown]
# The limit of this: the network was trained *with* gates, and its other weights are fitted to them.
# Forcing a gate shows what this network relies on. It does not show what a network without gates
# would reach after a training of its own.
#
# ## What a layer makes of a clip
#
# A layer's view of a whole clip, its embedding, is its output averaged over mel and frames: one
# number per channel. Beside the five blocks stands the hidden layer of the head (fc1, after ReLU).
# Clips are those of the validation and test parts, which the network was not trained on.
#
# Two numbers per layer. *Neighbours*: the share of clips whose five nearest clips by cosine, those
# of the same recording left out, vote for their class. *Trustworthiness*
# {cite:p}`venna2001neighborhood` of a map in the plane, made with t-SNE
# {cite:p}`vandermaaten2008tsne` or UMAP {cite:p}`mcinnes2018umap`: 1 where all five neighbours in
# the map were neighbours in the layer. Neighbours are counted in the layer itself, not in its map.

# %% tags=["remove-stderr"]
unseen = np.concatenate([data.split.validation, data.split.test])
rows = unseen[embeddings.evenly(labels[unseen], n_clips)]
embedded = embeddings.embed(model, front_end, data, rows)
clip_maps = embeddings.all_maps(embedded)
measured = embeddings.measure(embedded, clip_maps, labels[rows], sources[rows])
names = {"right": "neighbours right (%)", "low": "low", "high": "high"}
trust = {method: f"{method}, trustworthiness" for method in embeddings.METHODS}
measured.rename(columns=names | trust).style.format(precision=1).format(
    "{:.3f}", subset=list(trust.values())
)

# %% tags=["hide-input"]
clips = data.clips.loc[rows, ["filename", "category", "fold", "part"]].reset_index(drop=True)
predicted = predictions.set_index("row").predicted[rows]
clips["predicted"] = [data.class_names[label] for label in predicted]
few = len(data.class_names) <= len(explorer.COLOURS)
clips["group"] = clips.category if few else major_category(data.clips)[rows].to_numpy()

# %% mystnb={"figure": {"name": "fig-04-embeddings", "caption": "Maps of the validation and test clips, from the first block to the hidden layer of the head. Colour and shape: class (major category where there are too many classes); ring: the network's prediction is wrong. Distances between far groups mean little, and directions nothing."}, "image": {"alt": "Two rows of six scatter plots, t-SNE above UMAP. From left to right classes gather into groups of one colour; rings lie mostly between groups or inside a group of another colour."}}
figure = figures.clip_maps(clips, clip_maps)

# %% [markdown]
# The same maps to look around in: choose a layer, point at a clip, click to hear the loudest part
# of it. Where does the network mishear, and do you? Follow one clip from layer to layer.

# %% tags=["hide-input"]
heard = np.flatnonzero(clips.part == "test")
heard = heard[embeddings.evenly(clips.category.to_numpy()[heard], n_sounds)]
excerpts, excerpt_sr = embeddings.excerpts(data, rows[heard], settings.front_end.sr)
explorer.explorer(
    clips,
    clip_maps,
    dict(zip(heard.tolist(), excerpts, strict=True)),
    excerpt_sr,
    f"{len(clips)} validation and test clips, {len(heard)} test clips with sound (the others are "
    "pale). A class button shows that class alone. With the keyboard: arrows move to the next clip, "
    f"enter plays it. Ring: wrong prediction. Sound: {settings.dataset_label} "
    f"({settings.licence}), loudest {embeddings.EXCERPT_S:g} s.",
)

# %% tags=["hide-input"]
np.savez_compressed(chapter.folder / "gates.npz", rows=test, **test_gates)
everything = {kind: forced["test"].loc[f"all, {kind}"] for kind in ("mean", "half", "open")}
metrics = {
    "gates_share_pct": Metric(gates.share_of_parameters(model), "%"),
    "gates_verdict": Metric(gates.verdict(everything["mean"]), "", len(test)),
    "forced_test_clips": len(test),
    "forced_as_trained": Metric(forced["test"].accuracy["as trained"], "%", len(test)),
    "embedded_clips": len(clips),
    "trust_lowest": float(measured[list(embeddings.METHODS)].min(axis=None)),
}
for kind, row in everything.items():
    metrics |= {
        f"forced_{kind}": Metric(row.difference, "points", len(test), (row.low, row.high)),
        f"forced_{kind}_changed": Metric(int(row.changed), "", len(test)),
        f"forced_{kind}_nll": Metric(
            row.nll_difference, "nats", len(test), (row.nll_low, row.nll_high)
        ),
    }

# %% tags=["hide-input"]
for gate, row in described.iterrows():
    metrics |= {
        f"{gate}_mean": Metric(row["mean"], "", len(test)),
        f"{gate}_closed_pct": Metric(row["closed (%)"], "%", len(test)),
        f"{gate}_off_pct": Metric(row["closed for every clip (%)"], "%", len(test)),
        f"{gate}_half_pct": Metric(row["at exactly 0.5 (%)"], "%", len(test)),
        f"{gate}_between_pct": Metric(row["variance between classes (%)"], "%", len(test)),
    }
for name, row in measured.iterrows():
    layer = name.replace(" ", "")
    metrics |= {
        f"neighbours_{layer}": Metric(row.right, "%", len(clips), (row.low, row.high)),
    }
forced = pd.concat(forced, names=["part", "gates"])
chapter.publish(metrics, forced_gates=forced, embeddings=measured)

# %% [markdown]
# ## What we learned
#
# - Block by block the maps trade resolution for channels. From block 4 on a map has only a few rows:
#   it can say *when* something is there far better than *where in frequency*. That is why
#   {doc}`05_dictionaries` averages a map over frequency and lets a dictionary supply the spectrum.
# - Gates scale channels and do not change shapes. Per clip the first gate closes
#   {glue:text}`se1_closed_pct:.1f` % of the channels, the last {glue:text}`se4_closed_pct:.1f` %; the
#   last closes {glue:text}`se4_off_pct:.1f` % for every clip. At exactly one half, where a gate says
#   nothing about the clip, stand {glue:text}`se1_half_pct:.0f` % of the first gate's values and
#   {glue:text}`se4_half_pct:.0f` % of the last one's. Between classes lies
#   {glue:text}`se1_between_pct:.0f` % of the variance in the first and
#   {glue:text}`se4_between_pct:.0f` % in the last (class means of few clips vary by chance too).
# - Do the gates earn the {glue:text}`gates_share_pct:.1f` % of the parameters they cost? With all of
#   them fixed at their training means, {glue:text}`forced_mean_changed:d` of
#   {glue:text}`forced_test_clips:d` test decisions change, accuracy by
#   {glue:text}`forced_mean:+.1f` points ({glue:text}`forced_mean_low:+.1f` to
#   {glue:text}`forced_mean_high:+.1f`) and the loss by {glue:text}`forced_mean_nll:+.3f` nats per clip:
#   {glue:text}`gates_verdict`. Only what is lost here is earned by looking at the clip.
# - The network relies on the *scale* that its gates give: with all of them open the accuracy changes
#   by {glue:text}`forced_open:+.1f` points, at one half by {glue:text}`forced_half:+.1f`. It was
#   trained with gates; what a network without them would reach takes a training of its own.
# - Classes come apart with depth: the nearest neighbours of {glue:text}`embedded_clips:d` unseen clips
#   vote for the right class in {glue:text}`neighbours_block1:.0f` % of the cases in block 1,
#   {glue:text}`neighbours_block3:.0f` % in block 3 and {glue:text}`neighbours_fc1:.0f` %
#   ({glue:text}`neighbours_fc1_low:.0f` to {glue:text}`neighbours_fc1_high:.0f`) in the head. The maps
#   keep neighbours (trustworthiness at least {glue:text}`trust_lowest:.3f`), not distances.
#
# ## Exercises
#
# 1. Set `n_maps` to 32 and look at the weakest channels of block 5. Are any of them always silent?
# 2. Before you look at {numref}`fig-04-forced`: which single gate can be opened at the least cost,
#    the first or the last? Why?
# 3. In the explorer, follow a clip with a ring from block 1 to fc1. In which layer does it join the
#    class that it is mistaken for? Listen to it and to its neighbours.
