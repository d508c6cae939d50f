# %% [markdown]
# # Interventions
#
# **Question: what does a hidden layer do, rather than what correlates with it?**
#
# What was found in this build, each number with its controls:
#
# - {glue:text}`probe_meaning_says`
# - {glue:text}`probe_effect_says`
# - {glue:text}`probe_erasing_says`
# - {glue:text}`probe_spectrum_says`
# - {glue:text}`probe_sparse_spectrum_says` {glue:text}`probe_wide_spectrum_says`
# - {glue:text}`probe_stable_channels_says` {glue:text}`probe_stable_sparse_says`
#
# {doc}`05_dictionaries` asks what can be *read* from a layer. Loudness alone can be read from every
# layer, and random filters pass on much of a sound. Here the layer is interfered with: sounds lose
# what an atom claims, channels fall silent, classes are taken apart, and the same is done to *random
# convolutions*: a network whose convolutions never learned and whose head did. All of it is measured
# on test clips; what had to be chosen was chosen on validation clips.
#
# Before it: {doc}`03_training`. Run time: a quarter of a minute for the procedural clips. For real
# clips probe the networks beforehand, several at once:
# `python -m esc_lib probe --profile esc10 --narrow --seeds 0 1`.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: read its tables, measure nothing

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd

from esc_lib import probing
from esc_lib.config import PROFILES
from esc_lib.figures import interval_rows
from esc_lib.figures import probing as figures
from esc_lib.probing import findings, scores
from esc_lib.study import Chapter, Metric, source

chapter = Chapter("14_interventions", profile, artifacts, epochs)
settings, data = chapter.settings, chapter.data
chapter.read("03_training")
recorded = Path(start_from) if start_from else None

# %% [markdown]
# ## A glass box first
#
# Would a measure see what a layer does, if the layer did something simple? A network is built whose
# channels follow the level of neighbouring bands and whose classes are groups of channels. On
# procedural clips every measure below has to reach nine tenths of all there is to find there, and
# its null where the channels are dealt out anew (classes: where they are silenced in random order;
# seeds: two untrained networks). What fails is not used further down.

# %% tags=["remove-stderr"]
examined = probing.examine(PROFILES["demo"])
failed = [": ".join(name) for name, used in examined.used.items() if used is False]

# %% mystnb={"figure": {"name": "fig-14-glass", "caption": "The glass box: what each measure finds there (coloured) and where channels are dealt (grey squares; below the scale at its left end). Dotted: what it has to reach. Of sparse codes no truth is known; their rows say how much of the box they pass on."}, "image": {"alt": "A row per measure with a coloured mark, mostly near one, joined to a grey square far to the left; crosses mark measures that stay below the dotted line or whose grey square does not fall."}}
figure = figures.glass_box(examined, probing.REACHED)

# %% [markdown]
# Not used: {glue:text}`probe_failed`.
#
# A tenth of the clip's energy alone, as the test of atoms was first defined ("no limit of area"), is
# more than an atom in quiet bands holds: it takes out most of the clip, and everything falls. Hence
# the second limit, a tenth of the points. Where MelConstrainedLinear is among them, its triangles,
# which start where a channel is most active, did not find the channel's bands; where *layer* is, a
# few numbers a frame tell much of it whatever they are.
#
# ## The networks
#
# Two of each: as trained, and random convolutions of the same shape, all as it was before training
# but for the head, which is trained on training clips. The layer is the one of
# {doc}`05_dictionaries`.

# %% tags=["remove-stderr"]
tables = probing.collect(data, settings, chapter.runs, chapter.root / "probing", recorded)
groups = probing.by_width(tables)
main = next(iter(groups))
own = groups[main]
values = scores.values(scores.by_clip(own))
found = findings.everything(own)

# %%
clips = tables["clips"].drop_duplicates(["run", "network", "filename"])
networks = clips.groupby(["width", "network"]).agg(
    networks=("run", "nunique"), clips=("filename", "nunique"), recognised=("before", "mean")
)
networks.rename_axis(["channels of block 1", "network"]).style.format({"recognised": "{:.3f}"})

# %% [markdown]
# Figures and sentences are about the networks with {glue:text}`probe_width:d` channels in block 1,
# {glue:text}`probe_networks:d` of them; others stand in the last table. Intervals are over source
# recordings.
#
# ## Does an atom mean its channel?
#
# Atom $k$ of a dictionary claims the share $M_k = W_k H_k / WH$ of each point of the spectrogram. The
# points that it claims most are taken out of the *sound*:

# %% tags=["hide-input"]
source(probing.first_in_rank)

# %% [markdown]
# What is left goes through front end and network again. If the atom means its channel, that channel
# falls further than the others do: the statistic is the percentile of its relative fall among the
# channels active in the clip, one half by chance. As a control the columns of $W$ are dealt among the
# channels: what remains then comes from *when* a channel is loud.

# %% mystnb={"figure": {"name": "fig-14-meaning", "caption": "Percentile of a channel's fall when what its atom claims is taken out, by dictionary, and the same for sparse codes; mean over test clips with 95 % interval over recordings. Dotted: chance."}, "image": {"alt": "A row per dictionary with three marks and bars: the trained network, the same with dealt columns, and random convolutions, against a dotted line at one half."}}
meaning = values.loc["meaning"]
things = list(meaning.index.get_level_values("what").unique())
series = {
    "trained": ("trained", "own"), "trained, columns dealt": ("trained", "dealt"),
    "random convolutions": ("random", "own"), "random, columns dealt": ("random", "dealt"),
}  # fmt: skip
figure = figures.measured(meaning, things, series, scores.MEASURES["meaning"].label, 0.5)

# %% [markdown]
# ## Does a channel matter?
#
# Channel $k$ is silenced behind its gate, and only what lies behind it runs again: the real change of
# the decision's log-odds. Gradient times activation predicts that change to first order. Do the two
# rank the channels of a clip alike? The simplest rival ranks them by activation alone.

# %% tags=["hide-input"]
source(probing.Behind.logits, probing.Behind.expected)

# %% mystnb={"figure": {"name": "fig-14-effects", "caption": "Rank correlation, over the units active in a clip, between the real change of the log-odds and what gradient x activation, the same dealt among units, and activation alone say; mean over test clips with 95 % interval over recordings."}, "image": {"alt": "A row for channels and for each sparse basis, with marks for trained network and random convolutions on the right and for both controls further left."}}
effect = values.loc["effect"]
bases = list(effect.index.get_level_values("what").unique())
series = {
    "trained": ("trained", "own"), "trained, dealt": ("trained", "dealt"),
    "trained, activation alone": ("trained", "activation"),
    "random convolutions": ("random", "own"),
}  # fmt: skip
figure = figures.measured(effect, bases, series, scores.MEASURES["effect"].label, 0)

# %% [markdown]
# ## Losing a class
#
# Units are ordered on training clips by their mean effect on a class in its clips, and silenced in
# this order until half of the class' test clips that were recognised are lost. How many does it take,
# and how far do the *other* classes fall with it? Controls are random orders and the order by
# activation. A class that the network still says when all units are silent cannot be lost.

# %% mystnb={"figure": {"name": "fig-14-losing", "caption": "1 - fall of the other classes' recall over that of the class which was to be lost: 1, it went alone; 0, all went. With 95 % interval over recordings."}, "image": {"alt": "A row per basis with marks for three orders in the trained network and for the order by effect in random convolutions."}}
losing = values.loc["erasing"]
series = {
    "trained, by effect": ("trained", "own"), "trained, by activation": ("trained", "by activation"),
    "trained, random order": ("trained", "random"),
    "random convolutions, by effect": ("random", "own"),
}  # fmt: skip
figure = figures.measured(losing, bases, series, scores.MEASURES["erasing"].label)

# %%
needed = scores.needed(own["classes"])
n_classes = own["classes"].groupby(["network", "basis", "order"])["class"].nunique()
needed.rename(columns={"value": "units needed (%)", "classes": "classes lost"}).assign(
    classes=n_classes
).style.format(precision=1)

# %% [markdown]
# In speech encoders, removing 19 to 27 % of the features of a sparse autoencoder is said to erase a
# concept {cite:p}`aparin2026audiosae`. Here a unit of a sparse basis takes what it writes out of its channels, and the
# maps keep their layout over frequency, which a frame does not know.
#
# ## Another basis than channels
#
# The channels need not be the layer's own units. A $k$-sparse autoencoder
# {cite:p}`makhzani2014ksparse,gao2025scaling` is fitted to the layer's frames $x$, its channels at
# one time:
#
# $$c = \mathrm{top}_k\big(\mathrm{ReLU}(E(x - m) + b)\big), \qquad \hat x = m + D^\top c,$$
#
# with as many units as channels (1x) and four times as many (4x). Its codes $c$ take H's place. The
# controls are as many random directions, of which the strongest $k$ are active, and the principal
# components. First: what do they hold of the spectrum's *shape*, each frame in dB less its mean, which
# loudness does not give away?

# %% mystnb={"figure": {"name": "fig-14-spectrum", "caption": "Variance of the level-free spectrum that a ridge regression explains on test clips, from channels, sparse codes and random directions; 95 % intervals over recordings. Left of zero: worse than the mean shape."}, "image": {"alt": "A row per basis with a mark for the trained network and one for random convolutions."}}
spectrum = values.loc["spectrum"]
every = list(spectrum.index.get_level_values("what").unique())
series = {"trained": ("trained", "own"), "random convolutions": ("random", "own")}
figure = figures.measured(spectrum, every, series, scores.MEASURES["spectrum"].label, 0)

# %% [markdown]
# How much of the layer itself the codes tell beyond loudness, and how many units are dead, silent on
# all training clips. The glass box says of the first number that it cannot judge: read it beside the
# principal components only.

# %%
layer = values.loc["layer"].xs("own", level="version")["value"].unstack("network")
dead = own["dead"].groupby(["basis", "network"]).dead.mean().unstack("network")
pd.concat({"variance told": layer, "dead units": dead}, axis=1).style.format("{:.3f}", na_rep="")

# %% [markdown]
# ## Found again by another seed?
#
# Two networks of one fold and two seeds hear the same unseen clips. What the loudness of frame and
# clip explains is taken out of H, units are matched one to one so that they correlate most, and the
# pairs above the bar are counted: the correlation that one in a hundred matched pairs of untrained
# networks exceeds.

# %% mystnb={"figure": {"name": "fig-14-stability", "caption": "Share of units that another seed finds again, less the share of untrained networks', with 95 % interval over recordings. Without a second seed there is nothing to show."}, "image": {"alt": "A dot with a horizontal bar per basis against a dotted line at zero, or an empty frame."}}
again = scores.stable(own["stability"]) if len(own.get("stability", ())) else pd.DataFrame()
shown = again if len(again) else pd.DataFrame(columns=["difference", "low", "high"], dtype=float)
figure = interval_rows(shown, "difference", "share found again, above chance", 0)

# %%
again.style.format(precision=2)

# %% [markdown]
# ## All comparisons

# %%
every_width = pd.concat({
    f"{width} channels": found if width == main else findings.everything(group)
    for width, group in groups.items()
})  # fmt: skip
every_width.style.format(precision=2).format("{:.0f}", subset="clips", na_rep="")

# %% tags=["hide-input"]
unfit = findings.unfit(examined)
says = {key: findings.sentence(key, found, key not in unfit) for key in findings.CLAIMS}
stable = {key: findings.sentence(f"stability, {basis}", found) for key, basis in (
    ("channels", "channels"), ("sparse", "sparse 1x"))}  # fmt: skip
metrics = {f"probe_{key}_says": words for key, words in says.items()}
metrics |= {f"probe_stable_{key}_says": words for key, words in stable.items()}
metrics |= {
    "probe_failed": "; ".join(failed),
    "probe_width": int(main),
    "probe_networks": own["held"].run.nunique(),
    "probe_clips": own["held"].filename.nunique(),
}
for (measure, what, network, version), row in values.iterrows():
    name = "_".join((measure, what, network, version)).replace(" ", "_")
    metrics |= {f"probe_{name}": Metric(row.value, "", int(row.clips), (row.low, row.high))}
for (network, basis, order), row in needed.iterrows():
    name = "_".join((network, basis, order)).replace(" ", "_")
    metrics |= {f"probe_needed_{name}": Metric(row.value, "%", None, (row.low, row.high))}

# %% tags=["hide-input"]
chapter.publish(
    metrics, glass_box=examined, values=values, comparisons=every_width, needed=needed,
    stability=again,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - *Atoms.* {glue:text}`probe_meaning_says` Where the percentile is near one half, an atom's spectrum
#   is a description that fits, not what the channel listens to.
# - *Channels.* {glue:text}`probe_effect_says` A high correlation lets gradient times activation
#   stand in for silencing a channel; it says nothing about what the channel stands for.
# - *Classes.* Half a class is lost when {glue:text}`probe_needed_trained_channels_by_effect:.1f` %
#   of the channels go, in random order {glue:text}`probe_needed_trained_channels_random:.1f` %, in
#   random convolutions {glue:text}`probe_needed_random_channels_by_effect:.1f` %.
# - *Sparse codes.* {glue:text}`probe_sparse_meaning_says`
# - *Limits.* One layer, {glue:text}`probe_networks:d` network(s) and
#   {glue:text}`probe_clips:d` test clips; intervals are over recordings, not over trainings. Means
#   over frequency leave out where in the spectrum a map is active.
#
# ## Exercises
#
# 1. Predict from {numref}`fig-14-glass` what the meaning of an atom would be if two channels
#    listened to the same bands.
# 2. Set `layer` of `Dictionaries` to `conv_block5`: behind it there is no convolution. What must the
#    rank correlation of {numref}`fig-14-effects` become?
# 3. Give the sparse basis 16 units a frame instead of 8 (`Probing.active`). Which of its numbers
#    rise, and which of its controls rise with them?
