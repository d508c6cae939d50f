# %% [markdown]
# # A planted cue
#
# **Question: where a network's reason is known, to a band and a frame, do explanations point there?**
#
# **What was found:** {glue:text}`planted_found`.
#
# {doc}`08_faithfulness_and_listening` asks whether a decision stands on what an explanation keeps.
# That cannot tell a *reason* from what merely suffices: a gain per band that nobody would call a
# reason does as well there. Here the reason is made {cite:p}`adebayo2020debugging`. A tone of
# 200 ms, 20 dB below the clip's peak, is planted at a random time in all training clips of one class
# and in a quarter of all others, which are then *given that class* {cite:p}`gu2017badnets`. Nothing
# but the tone tells them, so the network has to hear it. A second tone, equally loud, the *decoy*, is
# in every training clip and decides nothing.
#
# Before it: {doc}`03_training`. Run time: a minute for the procedural clips. On real clips the
# narrow network is taught, which takes a quarter of an hour on ESC-10.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: read its tables, train nothing

# %% tags=["hide-input"]
from pathlib import Path

from esc_lib.evaluation import accuracy
from esc_lib.explain import planted, pointing
from esc_lib.figures import interval_rows
from esc_lib.figures import probing as figures
from esc_lib.figures.html import player
from esc_lib.study import Chapter, Metric, source

chapter = Chapter("17_planted_cue", profile, artifacts, epochs, needs=["captum"])
settings, data = chapter.settings, chapter.data
chapter.read("03_training")
recorded = Path(start_from) if start_from else None

# %% [markdown]
# ## The tone
#
# In the first test clip of another class: the clip with the decoy, then with the cue as well. The cue
# is at 4 kHz, the decoy at 2 kHz.

# %% tags=["hide-input"]
source(planted.Cue.added_to)

# %%
tones = planted.Planted.draw(data, settings.front_end.sr)
rows = data.split.test[data.labels[data.split.test].numpy() != tones.label][:1]
clip, n_valid = data.batch(rows)
with_decoy = tones.decoy.added_to(clip, rows, settings.front_end.sr)
with_both = tones.cue.added_to(with_decoy, rows, settings.front_end.sr)
player.pictured(
    player.of_parts(chapter.front_end, [with_decoy, with_both], n_valid, [data.clips.category[rows[0]]]),
    settings.front_end, settings.licence, limits=(-80, 0), headings=["decoy", "decoy and cue"],
)  # fmt: skip

# %% [markdown]
# ## Does the network go by it?
#
# The cue is inserted into validation and test clips of all *other* classes, beside the decoy. Where
# the decision turns to the cue's class, the cue is the reason. Below 80 % there would be no test.

# %% tags=["remove-stderr"]
clips, hits = pointing.collect(data, settings, chapter.runs, chapter.root / "planted", recorded)
tested = clips[clips.part == "test"]
turned, turned_low, turned_high = accuracy(tested.turned.to_numpy(), tested.src_file.to_numpy())
counts = clips.groupby("part").turned.agg(["size", "sum"])
counts.rename(columns={"size": "clips of other classes", "sum": "turned by the cue"})

# %% [markdown]
# ## Do explanations point there?
#
# Each method explains the decisions that were turned. A *hit*: the highest value of its map lies
# within one band and one frame of the cue; where several points share the highest value, the share
# of them. Rivals are asked for their maps, before these become masks; ours and the equaliser are
# masks. Controls: hits of the *decoy*, and of the cue in the maps of a network that was *not taught*
# it, on the same sounds. Chance is the share of all points that would be hits.

# %% mystnb={"figure": {"name": "fig-17-hits", "caption": "How often the highest point of a map lies on the cue that turned the decision (blue), on an equally loud decoy (orange), and on the cue in the map of a network that was not taught it (green); test clips, 95 % intervals over recordings."}, "image": {"alt": "A row per method with three marks: for integrated gradients and its kin the first one stands far right and the others at zero; for Grad-CAM and masks all stand near zero."}}
found = pointing.summary(hits)
order = found.xs((pointing.TAUGHT, "cue"), level=("network", "score")).value
methods = list(order.sort_values(ascending=False).index)
series = {
    "cue": (pointing.TAUGHT, "cue"), "decoy": (pointing.TAUGHT, "decoy"),
    "cue, network not taught": (pointing.USUAL, "cue"),
}  # fmt: skip
figure = figures.measured(found, methods, series, "maps whose highest point is there (%)", 0)

# %% [markdown]
# A mask need not have one highest point. A milder question: over which share of a map's points do
# those of the cue stand? One half is chance.

# %% mystnb={"figure": {"name": "fig-17-above", "caption": "Share of a map's points over which the cue's points stand, on average, with 95 % intervals over recordings; dotted: chance."}, "image": {"alt": "A dot with a bar per method against a dotted line at fifty percent."}}
standing = found.xs((pointing.TAUGHT, "above"), level=("network", "score")).loc[methods]
figure = interval_rows(standing, "value", "points below the cue's (%)", 50)

# %% tags=["hide-input"]
best = pointing.chosen(hits)
metrics = {
    "planted_found": pointing.sentence(clips, hits),
    "planted_best": best,
    "planted_clips": len(tested),
    "planted_affected": int(tested.turned.sum()),
    "planted_turned": Metric(turned, "%", len(tested), (turned_low, turned_high)),
    "planted_ours": order["components"],
    "planted_gradcam": order["Grad-CAM"],
    "planted_gradcam_above": standing.loc["Grad-CAM", "value"],
    "planted_ours_above": standing.loc["components", "value"],
}
n_affected = int(tested.turned.sum())
for (method, network, score), row in found.iterrows():
    name = f"planted_{method}_{network}_{score}".lower().replace(" ", "_").replace(":", "")
    metrics[name] = Metric(row.value, "%", n_affected, (row.low, row.high))
metrics |= {
    f"planted_best_{score}": Metric(row.value, "%", n_affected, (row.low, row.high))
    for score, row in found.loc[best].loc[pointing.TAUGHT].iterrows()
}
chapter.publish(metrics, hits=found)

# %% [markdown]
# ## What we learned
#
# - The cue turned {glue:text}`planted_turned:.0f` % ({glue:text}`planted_turned_low:.0f` to
#   {glue:text}`planted_turned_high:.0f` %) of {glue:text}`planted_clips:d` test clips of other classes.
# - Chosen on validation clips, *{glue:text}`planted_best`* hits it in {glue:text}`planted_best_cue:.0f` %
#   ({glue:text}`planted_best_cue_low:.0f` to {glue:text}`planted_best_cue_high:.0f` %) of the
#   {glue:text}`planted_affected:d` clips turned, the decoy in {glue:text}`planted_best_decoy:.0f` %.
# - The highest point of Grad-CAM is there in {glue:text}`planted_gradcam:.0f` %, but the cue stands above
#   {glue:text}`planted_gradcam_above:.0f` % of its map: a coarse grid can say where about, not where.
# - Our mask, *components*, hits it in {glue:text}`planted_ours:.0f` %, and the cue stands above
#   {glue:text}`planted_ours_above:.0f` % of it, where chance is 50. A mask that keeps much of a clip may
#   keep its reason; it does not say which part of what it keeps that is.
# - *Limits.* One network, one kind of cue: narrow, short and tonal. A method that finds it need not
#   find a timbre.
#
# ## Exercises
#
# 1. Predict what Grad-CAM would hit with a cue as long as the clip, then change `planted.LENGTH_S`.
# 2. Make the cue 20 dB fainter (`planted.LEVEL_DB`). Does the network still go by it?
# 3. Plant the decoy at the time of the cue. Whose hits fall?
