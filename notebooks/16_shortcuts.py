# %% [markdown]
# # Shortcuts
#
# **Question: does the classifier hear how its clips were made, beside what they sound like?**
#
# Found in this build: a forest that knows five numbers about the digital silence in a clip, and
# nothing of its sound, names the class in {glue:text}`shortcut_silence_alone:.1f` % of
# {glue:text}`shortcut_clips` clips (95 % interval {glue:text}`shortcut_silence_alone_low:.1f` to
# {glue:text}`shortcut_silence_alone_high:.1f` %), from two numbers about where the spectrum breaks off in
# {glue:text}`shortcut_edge_alone:.1f` % ({glue:text}`shortcut_edge_alone_low:.1f` to
# {glue:text}`shortcut_edge_alone_high:.1f` %); guessing gets {glue:text}`shortcut_chance:.1f` %. A network that is
# given test clips with faint noise in their silence changes by
# {glue:text}`shortcut_noise_change:.1f` points ({glue:text}`shortcut_noise_change_low:.1f` to
# {glue:text}`shortcut_noise_change_high:.1f`), *{glue:text}`shortcut_worst_class`* by
# {glue:text}`shortcut_worst_change:.1f`; with a {glue:text}`shortcut_cut_name` it changes by
# {glue:text}`shortcut_cut_change:.1f` points ({glue:text}`shortcut_cut_change_low:.1f` to
# {glue:text}`shortcut_cut_change_high:.1f`). An interval that holds zero says that these clips show no
# effect. The procedural clips were never coded nor padded: there a cue is planted to see whether it
# would be found.
#
# Two traces of their making lie in recordings of these sets. A short sound is padded to five
# seconds with **digital silence**, and in an 8-bit copy whatever is fainter than a step becomes
# silence, too. And a lossy codec, or an earlier recording at a lower rate, cuts the **upper edge of
# the spectrum**. If such traces go with the class, a classifier can be right for a reason that has
# nothing to do with hearing {cite:p}`geirhos2020shortcut,lapuschkin2019unmasking`.
#
# Before it: {doc}`03_training`. Run time: about ten seconds for the procedural clips, a few minutes
# for real ones. Other runs, as the narrow network's on all folds, are measured beforehand and read
# here: `python -m esc_lib shortcuts --profile esc10 --narrow`.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: its measurements go before

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd

from esc_lib.figures import interval_rows
from esc_lib.figures import shortcuts as figures
from esc_lib.probing import cues, shortcuts
from esc_lib.study import Chapter, Metric

chapter = Chapter("16_shortcuts", profile, artifacts, epochs)
settings, data = chapter.settings, chapter.data
chapter.read("03_training")
sr = settings.front_end.sr
chance = 100 / len(data.class_names)
recorded = Path(start_from) if start_from else None

# %% [markdown]
# ## The traces
#
# Silence here is a run of zeros of at least ten milliseconds. Its five numbers: how much at the
# beginning, at the end, the longest piece between, the share of the clip, the number of pieces.
# The edge is where the mean spectrum falls most within 500 Hz, in the upper half of the spectrum;
# its two numbers are where, and by how much; less than 20 dB is no edge. Sound can have one, too:
# the procedural sources end in edges by design.

# %% mystnb={"figure": {"name": "fig-16-cues", "caption": "Left: share of each class's clips that end in digital silence. Right: where the spectrum of each clip breaks off (a dot per clip; the darker, the steeper; at the right end those without an edge). Dots of many classes in one column are the low-pass of a codec."}, "image": {"alt": "Rows of classes: bars on the left, most silent class on top, and on the right a row of dots per class over frequency."}}
silence, edge = cues.silence(data, sr), cues.edge(data, sr)
figure = figures.cues(pd.concat([data.clips.category, silence, edge], axis=1))

# %% [markdown]
# ## Each trace alone
#
# A forest {cite:p}`breiman2001random` on those numbers only, over the five official folds; no
# recording stands on both sides. The control has the classes dealt anew among recordings: what it
# gets is chance. Intervals (95 %) are over source recordings.

# %% mystnb={"figure": {"name": "fig-16-alone", "caption": "Accuracy of a forest that knows one trace and nothing of the sound, and with classes dealt among recordings; the dotted line is guessing."}, "image": {"alt": "Four rows, each a dot with a horizontal bar, against a dotted vertical line."}}
judged = shortcuts.alone(data, sr)
alone = shortcuts.accuracies(judged)
figure = interval_rows(alone, "value", "accuracy (%)", chance)

# %% [markdown]
# By class: clips that a trace cannot tell apart all get one class, so a class counts only if it is
# found more often (lower end of the interval) than the others' clips are taken for it.

# %%
of_class = shortcuts.by_class(judged[judged.condition.isin(cues.CUES)])
told = of_class[of_class.low > of_class.false_alarms]
told.sort_values("value", ascending=False).head(12).style.format(precision=0).hide()

# %% [markdown]
# Would the forest find a trace that is certainly there? In a copy of the clips, all those of the
# first class end in silence.

# %%
planted = cues.silenced(data, np.flatnonzero(data.labels == 0))
predicted = shortcuts.classified(cues.silence(planted, sr), data.clips)
found = shortcuts.decided(data.clips, predicted, "planted")
of_planted = shortcuts.accuracies(found[found.label == 0]).iloc[0]
print(f"right in {of_planted.value:.0f} % of the clips of this class")

# %% [markdown]
# ## The network without a trace
#
# The same test clips, altered: low-passed, so that all spectra break off at one place; with noise
# as faint as the rounding noise of 8 bits (53 dB below full scale) in the silence; and, as a
# control, with that noise in all the rest and the silence left as it is. A low-pass takes sound as
# well: only the highest one, above which a coded clip has little, speaks of the codec. Differences
# are paired, clip by clip.

# %% tags=["remove-stderr"]
measured = shortcuts.collect(data, settings, chapter.runs, chapter.root / "shortcuts", recorded)
pd.concat(
    {network: shortcuts.accuracies(table) for network, table in measured.groupby("network")},
    names=["network"],
).style.format(precision=1)

# %% mystnb={"figure": {"name": "fig-16-without", "caption": "Change of the accuracy of the network that was measured on most clips when a trace is taken out of its test clips, with 95 % intervals over source recordings; left of the dotted line: decisions are lost."}, "image": {"alt": "A row per alteration, a dot with a horizontal bar each, against a dotted vertical line at zero."}}
network = measured.network.value_counts().idxmax()
main = measured[measured.network == network]
changes = shortcuts.differences(main)
figure = interval_rows(changes, "value", "change of accuracy (points)", 0)

# %% [markdown]
# The classes that lose or win more than chance explains:

# %%
by_class = shortcuts.differences_by_class(main)
clear = by_class[(by_class.high < 0) | (by_class.low > 0)]
clear.sort_values(["condition", "value"]).style.format(precision=1).hide()

# %% tags=["hide-input"]
quiet = by_class[by_class.condition == "noise in the silence"].set_index("class")
worst, cut = quiet.loc[quiet.value.idxmin()], changes.iloc[0]
noise, rest = changes.loc["noise in the silence"], changes.loc["noise in all the rest"]
ends = silence.trailing_s[silence.trailing_s > 0]


# %% tags=["hide-input"]
def metric(row, unit="points"):
    return Metric(row.value, unit, int(row.clips), (row.low, row.high))


chapter.publish(
    {
        "shortcut_clips": len(data.clips),
        "shortcut_chance": Metric(chance, "%"),
        "shortcut_silence_alone": metric(alone.loc["silence"], "%"),
        "shortcut_silence_dealt": metric(alone.loc["silence, classes dealt"], "%"),
        "shortcut_edge_alone": metric(alone.loc["edge of the spectrum"], "%"),
        "shortcut_edge_dealt": metric(alone.loc["edge of the spectrum, classes dealt"], "%"),
        "shortcut_planted_alone": metric(of_planted, "%"),
        "shortcut_classes_told": told["class"].nunique(),
        "shortcut_ending_silent": Metric(100 * len(ends) / len(data.clips), "%", len(data.clips)),
        "shortcut_network": network,
        "shortcut_clips_measured": len(main) // main.condition.nunique(),
        "shortcut_cut_name": changes.index[0],
        "shortcut_cut_change": metric(cut),
        "shortcut_noise_change": metric(noise),
        "shortcut_rest_change": metric(rest),
        "shortcut_worst_class": worst.name.replace("_", " ") if worst.value else "no class",
        "shortcut_worst_change": metric(worst),
    },
    alone=alone, alone_by_class=of_class, without=changes, without_by_class=by_class,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - {glue:text}`shortcut_ending_silent:.1f` % of the clips end in digital silence. Silence alone gives a
#   forest {glue:text}`shortcut_silence_alone:.1f` % right, the edge of the spectrum
#   {glue:text}`shortcut_edge_alone:.1f` %; with classes dealt anew among recordings the same forests get
#   {glue:text}`shortcut_silence_dealt:.1f` and {glue:text}`shortcut_edge_dealt:.1f` %. That much can be known without
#   listening. Classes found more often than others are taken for them:
#   {glue:text}`shortcut_classes_told`.
# - A planted silence is found in {glue:text}`shortcut_planted_alone:.1f` % of the clips that have it, so the
#   forest is no bad detective.
# - The network ({glue:text}`shortcut_network`, {glue:text}`shortcut_clips_measured` test clips) changes by
#   {glue:text}`shortcut_cut_change:.1f` points with a {glue:text}`shortcut_cut_name`
#   ({glue:text}`shortcut_cut_change_low:.1f` to {glue:text}`shortcut_cut_change_high:.1f`). Where a map of relevance
#   lights up above a codec's edge and this interval holds zero, the map shows something that
#   decides nothing.
# - Faint noise in the silence changes its accuracy by {glue:text}`shortcut_noise_change:.1f` points
#   ({glue:text}`shortcut_noise_change_low:.1f` to {glue:text}`shortcut_noise_change_high:.1f`), most for
#   *{glue:text}`shortcut_worst_class`* ({glue:text}`shortcut_worst_change:.1f` points,
#   {glue:text}`shortcut_worst_change_low:.1f` to {glue:text}`shortcut_worst_change_high:.1f`); in all the rest, by
#   {glue:text}`shortcut_rest_change:.1f` points ({glue:text}`shortcut_rest_change_low:.1f` to
#   {glue:text}`shortcut_rest_change_high:.1f`). Where the first interval lies below zero the network goes by
#   padding, and a microphone that never falls silent will not give it that.
# - What this does not show: a pause after a short sound is part of the sound as well, and noise in
#   it changes the spectrogram's mean, so the loss is an upper bound of what padding alone is worth.
#
# ## Exercises
#
# 1. Predict which class loses most when its silence is filled, then read the table.
# 2. Put the noise 20 dB lower (`cues.STEP_8_BIT`): at what level does the network stop to notice?
# 3. Train the narrow network on clips whose silence is filled and measure it again. What did it use
#    instead?
