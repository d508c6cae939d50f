# %% [markdown]
# # Binaural attention rollout
#
# **Question: can a transformer hear where a sound comes from, and does its attention say by which
# part of the sound?**
#
# BAST {cite:p}`kuang2022bast` reads the spectrograms of two ears with one encoder each, joins them,
# and lets a third encoder decide. Its authors draw *attention rollout* {cite:p}`abnar2020rollout`
# under the spectrograms of both ears. Here the clips of {doc}`01_data` are put around a head, in a
# room without walls and in a lecture hall; a BAST is trained on them and compared with classical
# ways to use two ears on the same scenes; and the rollout is drawn, and then put to a test that the
# picture alone cannot pass or fail.
#
# Before it: {doc}`01_data`. Run time: half a minute for the procedural clips; an hour on one thread
# of a processor for ESC-10, with a small network; the full size needs a GPU. What was trained is
# found again in a second run.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
hrir = ""  # file with measured responses of a KU 100 (see data/README.md); empty: a sphere
epochs = 0  # of every training of the study; 0: as the profile says
shown = 0  # number of the test excerpt in the pictures and players
shown_deg = 60.0  # degrees, where it is put
hidden_share = 0.2  # of a spectrogram, in the test of the rollout

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib.companions import binaural
from esc_lib.companions.binaural import figures
from esc_lib.config import shortened
from esc_lib.figures.html import player
from esc_lib.study import Chapter, Metric

needs = ["lightning_fabric", "pyroomacoustics"]  # imported late
chapter = Chapter("10_binaural_attention_rollout", profile, artifacts, epochs, needs=needs)
settings, data = chapter.settings, chapter.data
plan = shortened(binaural.of_profile(profile), epochs)
head = binaural.open_head(hrir, plan.step_deg)
sphere = binaural.spherical_head(plan.step_deg)
print("head:", head.name)

# %% [markdown]
# ## Two ears
#
# A sound from the left reaches the left ear earlier, by up to two thirds of a millisecond, and is
# louder there, because the head is in the way. The exact solution for a rigid sphere with ears a
# little behind the middle {cite:p}`duda1998range` is built in; measured responses of a Neumann
# KU 100 dummy head {cite:p}`bernschutz2013spherical` are used where the file is given. A sphere is
# almost the same in front and behind. A head is not: its ears stick out and shade what comes from
# behind, at high frequencies.

# %%
both = {each.name: each for each in (sphere, head)}
directions = np.arange(0, 360, 5)
responses = {name: each.towards(directions) for name, each in both.items()}
time_s = {name: binaural.time_difference_s(each) for name, each in responses.items()}
time_s["rays around a sphere"] = binaural.woodworth_s(directions)
level_db = {name: binaural.level_difference_db(each) for name, each in responses.items()}

# %% mystnb={"figure": {"name": "fig-10-differences", "caption": "Differences between the ears by azimuth (0 ahead, 90 left): time, beside what rays around a sphere would take, and level over all frequencies. Each value occurs at least twice: mirror images in front and behind are alike."}, "image": {"alt": "Two panels of curves over azimuth, both rising to a hump on the left side and falling to a trough on the right side."}}
figure = figures.differences(directions, time_s, level_db)

# %% [markdown]
# ## Scenes
#
# Half-second excerpts at 16 kHz, cut where the clips sound, are put at one of 36 or more azimuths:
# in a room without walls, and in a lecture hall whose reflections are computed by the image-source
# method {cite:p}`scheibler2018pyroomacoustics`, each passing through the response of the head for
# the direction it comes from. In the hall, head and loudspeaker take several seats. Training hears
# some of them (*known*), the test also others (*new*). Clips stay in the parts of {doc}`01_data`,
# so that a test scene holds a source recording that nobody has heard, and every epoch puts every
# excerpt somewhere else.

# %%
study = binaural.make_study(data, settings.front_end.sr, plan, head, chapter.cache)
parts = study.excerpts.table.groupby("part", sort=False)
scenes = {part: binaural.draw(study, part, plan.test_rounds) for part in ("validation", "test")}
counts = parts.agg(clips=("filename", "nunique"), recordings=("src_file", "nunique"))
counts["excerpts"] = parts.size()
counts["judged scenes"] = pd.Series({part: len(table) for part, table in scenes.items()})
hall = study.places.responses[1, 0].astype(float)
rt60_s = np.mean([binaural.reverberation_time_s(ear, binaural.SR) for ear in hall])
print(f"reverberation time of the hall, as measured at the first seat: {rt60_s:.2f} s")
counts.style.format(precision=0, na_rep="")

# %% mystnb={"figure": {"name": "fig-10-responses", "caption": "Responses of both ears to a click from 90 degrees (left): without walls, and at the first seat of the lecture hall (first 60 ms)."}, "image": {"alt": "Two panels with a solid and a dashed line; on the left a single pulse per ear, on the right the same pulse followed by many smaller ones."}}
left_side = int(np.argmin(binaural.angular_error_deg(study.places.azimuths, 90)))
clicks = study.places.responses[:2, left_side, :, : int(0.06 * binaural.SR)]
figure = figures.responses(clicks, binaural.SR, ["anechoic", "lecture hall"])

# %% [markdown]
# Over headphones: one test excerpt goes around the head, anticlockwise from ahead, in eight steps.

# %%
first = int(np.flatnonzero(study.excerpts.table.part == "test")[shown])
name = study.excerpts.table.category[first].replace("_", " ")
walks = binaural.around(study, first)
around = [
    player.Sound(heard, f"{name}, around the head, {room}") for room, heard in walks.items()
]
player.captioned(around, binaural.SR, settings.licence)

# %% [markdown]
# ## The network
#
# Each ear's spectrogram (129 bins, 61 frames, in dB, both ears standardised together) is cut into
# patches of 16 x 16. Two encoders, *TE-L* and *TE-R*, read them, with weights of their own or
# shared. Their outputs are subtracted, added or concatenated, and a central encoder, *TE-C*,
# turns the result into a point near the unit circle. Three losses say how wrong a point is: the
# squared error, the angle, or the sum of both (*hybrid*). Parameters in millions of all six forms:

# %%
sizes = binaural.sizes(plan)
print(f"here: {plan.width} wide, {plan.layers} layers, {plan.heads} heads, stride {plan.stride}")
sizes.style.format(precision=2, na_rep="")

# %% [markdown]
# ## The classical way
#
# The time difference is where the correlation of both ears has its maximum after all frequencies
# were made equally strong (GCC-PHAT {cite:p}`knapp1976generalized`); the level difference is that
# of their energies. *Look-up* takes the direction whose own two differences, known from the head
# alone, are nearest. *Neighbours* and *trees* learn from training scenes, from these two numbers,
# or from *all cues*: level differences in ten bands, the shape of the spectrum, and the whole
# correlation. BAST gets magnitudes every 8 ms, in which time differences are hidden; trees on
# *levels only* know no more than it does.

# %% tags=["remove-stderr"]
verdicts = binaural.judge_rivals(study, scenes)
binaural.errors(verdicts["validation"]).style.format(precision=1)

# %% [markdown]
# ## Learning to hear
#
# The network is trained on known seats, in both rooms at once. The rate rises and falls once and
# the last epoch is kept: nothing is chosen. Size, rate and sharing were fixed beforehand, on
# validation scenes. The dotted line is the rival with all cues on the same kind of scenes. How far
# a network gets is a matter of time: a short training first learns left from right, and then stays
# for a while where front and back are not told apart.

# %% tags=["remove-stderr"]
fit = binaural.fit(study.excerpts, study.places, plan, chapter.cache / "runs")
for part, table in scenes.items():
    verdicts[part] = {"BAST": binaural.judge_network(study, fit.model, table), **verdicts[part]}

# %% mystnb={"figure": {"name": "fig-10-learning", "caption": "Error on validation scenes, without walls and at known seats of the hall together, by epoch."}, "image": {"alt": "A line that falls over the epochs, above or below a dotted horizontal line."}}
of_known = verdicts["validation"][binaural.STRONGEST].query("room != @binaural.ROOMS[2]")
figure = figures.learning(fit.history, of_known.error_deg.mean())

# %% [markdown]
# ## Fusions, encoders, losses
#
# The forms of the paper, each with the same short training, judged on validation scenes. After so
# few steps the order says which form learns fast, not which is best in the end.

# %% tags=["remove-stderr"]
short = {}
for variant, form in binaural.variants(plan).items():
    brief = binaural.fit(study.excerpts, study.places, form, chapter.cache / "runs")
    short[variant] = binaural.judge_network(study, brief.model, scenes["validation"])
variants = binaural.errors(short)
variants.style.format(precision=1)

# %% [markdown]
# ## Around the head
#
# On the test clips, once. *Error* is the mean angle between the truth and where a sound was heard,
# *low* and *high* its 95 % interval over source recordings; *folded* counts a mirror image in front
# or behind as right; *confused* is the share of front taken for back or back for front, in percent
# (without what lies within 15 degrees of the axis through the ears).

# %%
table = binaural.errors(verdicts["test"])
table.style.format(precision=1)

# %% mystnb={"figure": {"name": "fig-10-around", "caption": "Mean error per azimuth, on test scenes without walls and at new seats of the hall: BAST, the trees that know as much, and those that know more."}, "image": {"alt": "Two circles seen from above with three closed lines around the centre; a line far from the centre marks directions that are often misheard."}}
compared = ("BAST", binaural.LEVELS_ONLY, binaural.STRONGEST)
there = {
    system: binaural.summary(verdicts["test"][system], ["room", "azimuth_deg"])
    for system in compared
}
figure = figures.around_the_head(
    {system: each.loc[[binaural.ROOMS[0], binaural.ROOMS[2]]] for system, each in there.items()}
)

# %% mystnb={"figure": {"name": "fig-10-confusion", "caption": "Where BAST hears the test scenes. On the rising diagonal it is right, on the dotted lines it takes front for back."}, "image": {"alt": "Three square grids with a bright rising diagonal, and some weight along falling dotted lines."}}
heard_at = {
    room: binaural.confusion(of_room, study.places.azimuths)
    for room, of_room in verdicts["test"]["BAST"].groupby("room")
}
figure = figures.confusion(heard_at)

# %% [markdown]
# By how much each rival's error exceeds that of BAST on the same scenes, in degrees; an interval
# above zero means that BAST is better.

# %%
rivals = binaural.against(verdicts["test"], "BAST")
rivals.style.format(precision=1)

# %% [markdown]
# ## What attention rolls out to
#
# In each layer a token's output is a mixture of what it attends to and of itself: the mean over
# heads plus the identity, every row divided by its sum. The product over layers says what an
# output is made of; TE-C goes on from the mean of both ears. The rows of the product sum to one.
# The same excerpt from the same direction, in both rooms:

# %%
pictured = binaural.same_sound(study, first, shown_deg)
heard = binaural.levels_db(study.renderer(pictured))
maps = binaural.rollout_maps(fit.model, binaural.standardise(heard))
with torch.no_grad():
    _, attentions = fit.model(binaural.standardise(heard), attentions=True)
rows = [rolled.sum(-1) for rolled in binaural.roll_out_ears(attentions).values()]
off_one = max(float((sums - 1).abs().max()) for sums in rows)
print(f"sums of the rows of the rollouts differ from one by at most {off_one:.0e}")

# %% mystnb={"figure": {"name": "fig-10-rollout-anechoic", "caption": "A test excerpt without walls: (a) spectrograms of both ears, (b) rollout of the encoders of the ears, (c) of the central encoder. 1 is an even share; one scale for all."}, "image": {"alt": "Two spectrograms one above the other, beside each a map of the same size, and on the right one more map."}}
title = f"{name}, {pictured.azimuth_deg[0]:.0f} degrees, "
figure = figures.rollout(heard[0].numpy(), {k: m[0] for k, m in maps.items()}, title + "anechoic")

# %% mystnb={"figure": {"name": "fig-10-rollout-hall", "caption": "The same excerpt from the same direction in the lecture hall, drawn as in the figure before."}, "image": {"alt": "Two spectrograms with less contrast along time than before, beside each a map, and on the right one more map."}}
figure = figures.rollout(heard[1].numpy(), {k: m[1] for k, m in maps.items()}, title + "hall")

# %% [markdown]
# ## Is the map true?
#
# If rollout marks what the decision rests on, then hiding the marked part of both spectrograms must
# cost more than hiding as much elsewhere. The test hides the highest share of each map
# (`hidden_share`), then the same mask moved to random places, which keeps its area and shape, and
# then the lowest share. Two rivals without a network are tested in the same way: where the sound is
# loud, and where the ears differ. Hidden places get the mean level (*flat*).

# %%
of_test = scenes["test"].sample(plan.masked, random_state=0).reset_index(drop=True)
levels = torch.cat([binaural.levels_db(heard) for heard in study.renderer.batches(of_test)])
inputs = binaural.standardise(levels)
candidates = binaural.rollout_maps(fit.model, inputs)
candidates["louder ear's level"] = levels.amax(dim=1).numpy()
candidates["difference of the ears"] = (levels[:, 0] - levels[:, 1]).abs().numpy()
truth = binaural.masking_table(fit.model, inputs, of_test, candidates, hidden_share)
truth.style.format(precision=1, na_rep="")

# %% mystnb={"figure": {"name": "fig-10-masking", "caption": "Left: error on test scenes after the marked places were hidden (dots, with 95 % interval over source recordings), after masks of the same shape were moved elsewhere (squares), and after the least marked were hidden (triangles). Right: how much more the marked ones cost than moved ones."}, "image": {"alt": "Two panels with a row per map; a dot with a bar, a square and a triangle on the left, a dot with a bar beside a vertical zero line on the right."}}
figure = figures.masking(truth)

# %% [markdown]
# The mean level can itself mislead. Putting the mean of both ears into the hidden places takes only
# the difference between the ears away and leaves the sound as it was:

# %%
gentle = binaural.masking_table(
    fit.model, inputs, of_test, candidates, hidden_share, fill="both ears"
)
gentle.style.format(precision=1, na_rep="")

# %% tags=["hide-input"]
words = {"BAST": "bast", binaural.LEVELS_ONLY: "levels", binaural.STRONGEST: "strong"}
words |= {"look-up (time, level)": "lookup", "neighbours (time, level)": "simple"}
places = dict(zip(binaural.ROOMS, ("free", "known", "new"), strict=True))
by_room = {}
for (room, system), row in table.iterrows():
    if system in words:
        key, n = f"{words[system]}_{places[room]}", int(row.scenes)
        by_room |= {
            f"bin_{key}": Metric(row.error, "degrees", n, (row.low, row.high)),
            f"bin_{key}_confused": Metric(row.confused, "%", n),
            f"bin_{key}_folded": Metric(row.folded, "degrees", n),
        }

# %% tags=["hide-input"]
outcomes = {}
for room in binaural.ROOMS:
    gaps = rivals.loc[room]
    better, worse = gaps.index[gaps.low > 0], gaps.index[gaps.high < 0]
    outcomes |= {
        f"bin_beaten_{places[room]}": Metric(", ".join(better) or "none"),
        f"bin_beats_{places[room]}": Metric(", ".join(worse) or "none"),
    }
hidden = {}
for key, row in (("c", truth.loc["TE-C"]), ("level", truth.iloc[-2]), ("ears", truth.iloc[-1])):
    ends = row.gain_low, row.gain_high
    hidden[f"bin_hidden_{key}"] = Metric(row.gain_deg, "degrees", plan.masked, ends)
in_short = variants.error.unstack().mean()

# %% tags=["hide-input"]
chapter.publish(
    by_room
    | outcomes
    | hidden
    | {
        "bin_head": head.name,
        "bin_size": Metric(f"{plan.width} wide, {plan.layers} layers, stride {plan.stride}"),
        "bin_parameters_m": Metric(binaural.parameters_m(plan), "M"),
        "bin_published_m": Metric(binaural.PUBLISHED_M["subtract", False], "M"),
        "bin_published_deg": Metric(binaural.PUBLISHED_DEG, "degrees"),
        "bin_epochs": len(fit.history),
        "bin_minutes": Metric(fit.history.seconds.sum() / 60, "min"),
        "bin_device": "GPU" if torch.cuda.is_available() else "processor",
        "bin_heard": len(fit.history) * plan.per_excerpt * int(parts.size()["train"]),
        "bin_without": Metric(truth.error_deg["nothing"], "degrees", plan.masked),
        "bin_hidden_share": Metric(100 * hidden_share, "%"),
        "bin_short_epochs": plan.variant_epochs,
        "bin_short_best": in_short.idxmin(),
        "bin_short_best_deg": Metric(in_short.min(), "degrees"),
        "bin_short_worst": in_short.idxmax(),
        "bin_short_worst_deg": Metric(in_short.max(), "degrees"),
    },
    errors=table, against=rivals, variants=variants, sizes=sizes, history=fit.history,
    masking=truth.assign(fill="flat"), masking_both_ears=gentle.assign(fill="both ears"),
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - A BAST of {glue:text}`bin_parameters_m:.2f` M parameters ({glue:text}`bin_size`; published:
#   {glue:text}`bin_published_m` M), trained for {glue:text}`bin_minutes:.0f` minutes
#   ({glue:text}`bin_heard` scenes around the head *{glue:text}`bin_head`*), errs by
#   {glue:text}`bin_bast_free:.1f` degrees without walls (95 % interval
#   {glue:text}`bin_bast_free_low:.1f` to {glue:text}`bin_bast_free_high:.1f`), by
#   {glue:text}`bin_bast_known:.1f` at known seats of the hall and by
#   {glue:text}`bin_bast_new:.1f` ({glue:text}`bin_bast_new_low:.1f` to
#   {glue:text}`bin_bast_new_high:.1f`) at new ones. The authors print
#   {glue:text}`bin_published_deg` for their best, over both rooms, at full size and on recordings
#   of their own.
# - At new seats, two numbers (time and level) err by {glue:text}`bin_lookup_new:.1f` degrees looked
#   up and by {glue:text}`bin_simple_new:.1f` with neighbours; trees by
#   {glue:text}`bin_levels_new:.1f` on levels alone and by {glue:text}`bin_strong_new:.1f` on all
#   cues. Clearly worse than BAST: {glue:text}`bin_beaten_new`. Clearly better:
#   {glue:text}`bin_beats_new`. Without walls: {glue:text}`bin_beaten_free`, and
#   {glue:text}`bin_beats_free`.
# - BAST takes front for back or back for front in {glue:text}`bin_bast_free_confused:.1f` % of the
#   scenes without walls and in {glue:text}`bin_bast_new_confused:.1f` % at new seats; with mirror
#   images counted as right its errors are {glue:text}`bin_bast_free_folded:.1f` and
#   {glue:text}`bin_bast_new_folded:.1f` degrees.
# - Hiding the {glue:text}`bin_hidden_share:.0f` % that TE-C's rollout marks costs
#   {glue:text}`bin_hidden_c:.1f` degrees more than hiding as much elsewhere (95 % interval
#   {glue:text}`bin_hidden_c_low:.1f` to {glue:text}`bin_hidden_c_high:.1f`); where the sound is
#   loud, {glue:text}`bin_hidden_level:.1f` ({glue:text}`bin_hidden_level_low:.1f` to
#   {glue:text}`bin_hidden_level_high:.1f`); where the ears differ, {glue:text}`bin_hidden_ears:.1f`
#   ({glue:text}`bin_hidden_ears_low:.1f` to {glue:text}`bin_hidden_ears_high:.1f`). A picture
#   whose interval holds zero shows nothing that the network needs more than the rest.
# - Trained for {glue:text}`bin_short_epochs` epoch(s) each, the mean over the three rooms on
#   validation scenes is least for
#   *{glue:text}`bin_short_best`* ({glue:text}`bin_short_best_deg:.1f` degrees) and largest for
#   *{glue:text}`bin_short_worst`* ({glue:text}`bin_short_worst_deg:.1f`): small networks and a
#   short training, no verdict on the forms at full size.
#
# ## Exercises
#
# 1. With a sphere whose ears lie at 90 degrees (`ear_deg` of `spherical_head`), predict the share
#    of front-back confusions of every system, then run it.
# 2. Add the phase difference of the ears as a third picture to the input. Which rooms gain?
# 3. Roll out with the minimum over heads instead of the mean (`how="min"`). Do the rows still sum
#    to one? Does the map stand the test better?
# 4. Train without the hall and test in it. Which of the systems suffers least?
