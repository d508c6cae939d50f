# %% [markdown]
# # Cross-modal generation
#
# **Question: can a network draw what it hears and sound what it sees, and does self-attention help
# it?**
#
# SA-CMGAN {cite:p}`tan2020spectrogram` makes images from spectrograms and spectrograms from images:
# an encoder turns one modality into a code of 64 numbers, a generator turns code and noise into the
# other modality, and a discriminator judges whether a picture is real *and* goes with the code. Its
# authors report that self-attention {cite:p}`zhang2019sagan` in all three networks raises accuracy,
# most where the maps are largest. They count one random batch of 64 pictures, from one training.
# Here both directions are trained with and without attention from equal seeds, and everything that
# was held out is counted.
#
# Before it: {doc}`02_features` explains log-mel spectrograms; no other notebook has to run first.
# Run time: half a minute for the procedural pairs, an hour or more for digits without an
# accelerator; what was trained is found again in a second run.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
spoken = ""  # folder of the Free Spoken Digit Dataset, with `written`
written = ""  # folder of MNIST
sub_urmp = ""  # folder of Sub-URMP, instead of the digits; all empty: procedural pairs

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from esc_lib.companions.crossmodal import (
    DIRECTIONS,
    FIRST,
    Settings,
    evaluation,
    figures,
    of_profile,
    pictures_of,
    study,
    train_judge,
    waveform_of,
)
from esc_lib.figures import interval_rows
from esc_lib.figures.html import player
from esc_lib.study import Chapter, Metric

chapter = Chapter("11_cross_modal_generation", profile, artifacts, needs=["lightning_fabric"])
settings = of_profile(profile)
pairs = study.open_pairs(settings, spoken, written, sub_urmp)

# %% [markdown]
# ## Pairs
#
# The poster uses Sub-URMP, photographs and half-second sounds of 13 instruments, which its readers
# have to ask for. Two other sources of pairs need less: spoken and handwritten digits, and
# procedural ones, ten kinds of sound and ten drawn digits. A sound and an image are a pair if they
# are of one class; partners are drawn anew in every step. All pictures are 64 x 64. Held out are
# whole sources: speakers or players for sounds, writers or single images for images.

# %%
parts = {
    (modality, part): {"pictures": len(of_part[part]), "sources": len(set(of_part[part].sources))}
    for modality, of_part in (("sounds", pairs.sounds), ("images", pairs.images))
    for part in ("train", "test")
}
print(pairs.name)
pd.DataFrame.from_dict(parts, orient="index")

# %% [markdown]
# ## What is as published, and what is not
#
# Layers, losses (hinge, with mismatched pairs, {cite:p}`lim2017geometric`), spectral normalisation
# {cite:p}`miyato2018spectral`, optimiser and the place of the attention are the published ones.
# `esc_lib/companions/crossmodal/settings.py` says for each profile how wide the networks are, how
# long they are trained and at which rates; the table shows what this build runs. Where the two
# columns differ it is a smaller study of the same method. Five things are ours in every profile:
#
# - the encoder's rate rises and falls once, and its pictures may be stretched, shifted, brightened,
#   covered with noise and masked, if sources held back from training are better understood then;
# - where there are few inputs, the generator learns from codes of changed ones too (the last run
#   does not, to show what that is worth); this was added after the held-out digits had been read
#   once without it, so what it brings there is not a first look;
# - attention at 64 channels looks at the maxima of squares of `pool` x `pool` places;
# - generated pictures are judged by a small network of another shape, trained on real pictures of
#   the training part only;
# - the departures that the notes of `esc_lib/companions/crossmodal/networks.py` name.

# %%
own_size = ("width", "steps", "classifier_steps", "batch", "learning_rate", "generator_rate")
chosen = {name: getattr(settings, name) for name in (*own_size, "critic_every", "pool")}
as_published = {name: getattr(Settings(), name) for name in chosen}
pd.DataFrame({"this build": chosen, "published": as_published}).style.format("{:g}")

# %% [markdown]
# ## The encoder, on sources held back from training
#
# A picture drawn from a misheard code is wrong, however good it looks: the encoder bounds what the
# generator can reach. How strongly its pictures are changed is chosen here: strength 0 is not at
# all, as published, and `esc_lib/companions/crossmodal/distort.py` says what 1 is. The training
# sources are split into groups; two of the groups are held back in turn, and the strength with the
# best mean accuracy is taken. The test part is not looked at.

# %% tags=["remove-stderr"]
validation = {
    direction: study.validate(pairs, direction, settings, chapter.cache) for direction in DIRECTIONS
}
augmentation = {direction: table.accuracy.idxmax() for direction, table in validation.items()}
print("strength chosen:", augmentation)
pd.concat(validation, names=["direction"]).style.format(precision=1)

# %% [markdown]
# ## Training
#
# First the encoder as a classifier, then generator against discriminator, the encoder untouched. A
# run's name says how many codes of each input the generator saw, if more than one.

# %% tags=["remove-stderr"]
runs = study.plan(settings, augmentation, pairs)
trained = study.carry_out(pairs, runs, chapter.cache)
attending = {way: study.first(runs, way, FIRST) for way in DIRECTIONS}
plain = {way: study.first(runs, way, None) for way in DIRECTIONS}
shown = {way: trained[attending[way]] for way in DIRECTIONS}
minutes = study.minutes(trained.values())
print(f"{len(runs)} trainings of {settings.steps} steps: {minutes:.0f} minutes in all")

# %% mystnb={"figure": {"name": "fig-11-history", "caption": "Sound to image with attention at 64 channels, first seed. Left, the encoder's accuracy on the changed pictures of its batches. Middle, the hinge losses. Right, the mean scores of the discriminator: pairs beyond their margin no longer count in its loss."}, "image": {"alt": "Three panels over steps: the encoder's accuracy, the losses of generator and discriminator, and the scores of real matching, generated and real mismatched pairs."}}
figure = figures.history(shown["S2I"].encoder_history, shown["S2I"].history)

# %% [markdown]
# ## What came out
#
# Of each class the first held-out picture goes in; nothing is picked by hand. The columns are named
# by the class and by what the judge takes the picture with attention for.

# %% tags=["remove-stderr"]
judges, of_judge = {}, {}
for way in DIRECTIONS:
    real = pairs.sides(way)[1]
    judges[way] = train_judge(real["train"], len(pairs.class_names), settings.judge_steps)
    of_judge[way] = evaluation.judge_accuracy(judges[way], real["test"])
verdicts = {
    run: evaluation.verdicts(networks, judges[run.direction], pairs)
    for run, networks in trained.items()
}
pd.DataFrame.from_dict(of_judge, orient="index").style.format(precision=1)

# %%
grids, columns = {}, {}
for way, (goes_in, comes_out) in zip(DIRECTIONS, (("sound", "image"), ("image", "sound"))):
    inputs, real = (side["test"] for side in pairs.sides(way))
    rows = [np.flatnonzero(inputs.labels == k)[0] for k in range(len(pairs.class_names))]
    partners = [np.flatnonzero(real.labels == k)[0] for k in range(len(pairs.class_names))]
    taken = inputs.take(rows)
    grids[way] = {
        f"input {goes_in}": taken.unit().numpy(),
        f"with attention, {comes_out}": evaluation.generate(shown[way], taken).numpy(),
        f"without attention, {comes_out}": evaluation.generate(trained[plain[way]], taken).numpy(),
        f"a real {comes_out}": real.unit(partners).numpy(),
    }
    said = verdicts[attending[way]].judged[rows]
    columns[way] = [f"{a}, judged {pairs.class_names[b]}" for a, b in zip(pairs.class_names, said)]

# %% mystnb={"figure": {"name": "fig-11-images", "caption": "Sound to image: held-out sounds, images drawn from them with and without attention, and a real image of the class."}, "image": {"alt": "A grid with a column per class: a row of spectrograms, two rows of generated images and a row of real ones."}}
figure = figures.samples(grids["S2I"], columns["S2I"], pairs.front_end)

# %% mystnb={"figure": {"name": "fig-11-sounds", "caption": "Image to sound: held-out images, spectrograms made from them with and without attention, and a real sound of the class. All spectrograms share one scale."}, "image": {"alt": "A grid with a column per class: a row of images, two rows of generated spectrograms and a row of real ones."}}
figure = figures.samples(grids["I2S"], columns["I2S"], pairs.front_end)

# %% [markdown]
# ## How many are right
#
# Every held-out input is counted once. *Understood* is the share of inputs that the encoder itself
# takes for the right class. The interval (95 %) is over sources where there are five or more; over
# pictures where there are fewer, and then it says nothing about other speakers.

# %%
tables = {
    way: evaluation.compare({
        run.name: table for run, table in verdicts.items() if run.direction == way
    })
    for way in DIRECTIONS
}
pd.concat(tables, names=["direction"]).style.format(precision=1)

# %% mystnb={"figure": {"name": "fig-11-accuracies", "caption": "Share of generated pictures judged to be of the right class, with 95 % intervals; ours from all held-out inputs. Below the line, what the poster prints for Sub-URMP, another data set with another judge: its own two with the interval of the one batch of 64 that its code counts."}, "image": {"alt": "Two panels, one per direction: dots with horizontal bars for the runs here, squares below a line for the published ones, and a dotted line at guessing."}}
published = {way: evaluation.published(way) for way in DIRECTIONS}
figure = figures.accuracies(tables, published, 100 / len(pairs.class_names))

# %% [markdown]
# On what the networks were trained with, the poster prints accuracies as well. Those of the first
# seed with attention:

# %%
seen = {
    way: evaluation.compare({
        "this build": evaluation.verdicts(shown[way], judges[way], pairs, "train"),
    }).assign(published=evaluation.published(way, "train").accuracy["SA-CMGAN"])
    for way in DIRECTIONS
}
pd.concat(seen, names=["direction"]).style.format(precision=1)

# %% [markdown]
# ## What attention brings
#
# The difference between with and without on the same inputs: for each seed, and with every input
# given its mean over the seeds. The intervals are over inputs. Two trainings from different seeds
# differ as well, which no interval over inputs knows; compare the rows.

# %%
effects = {way: study.effect_of_attention(verdicts, way) for way in DIRECTIONS}
effect = pd.concat(effects, names=["direction"])
effect.style.format(precision=1)

# %% [markdown]
# Attention at other stages, sound to image, first seed, all with the same number of steps. *Weight*
# is the learned factor of the attention in each network; it starts at 0, which is no attention.

# %%
stages = study.effect_of_stage(verdicts, trained)
stages.style.format(precision=2)

# %% mystnb={"figure": {"name": "fig-11-stages", "caption": "Points that attention adds to the accuracy of sound to image, by the stage where it stands, with 95 % intervals; zero is no attention."}, "image": {"alt": "A dot with a horizontal bar per stage against a dotted vertical line at zero."}}
figure = interval_rows(stages, "difference", "difference to no attention (points)", 0)

# %% [markdown]
# ## Where attention goes
#
# The encoder of sound to image looks at a held-out sound. Five places are asked: the loudest in
# each third of what sounds, the loudest high one, and the quietest of all. If attention is there
# for repeated structure, as the poster has it, places of one kind should look at each other.

# %%
sound = pairs.sounds["test"].take([0])
weights = evaluation.attention_to(shown["S2I"].encoder.tower, sound)
picture = sound.unit().numpy()[0, 0]
asked = evaluation.places_to_ask(picture, round(weights.shape[1] ** 0.5))

# %% mystnb={"figure": {"name": "fig-11-attention", "caption": "First panel, a held-out sound and five places. Others, where the encoder's attention looks from each place (square), as a multiple of an even spread; the line encloses what is louder than 25 dB below the peak."}, "image": {"alt": "Six panels of time and frequency: a spectrogram with five numbered places, and for each place a map of weights with the outline of the sound."}}
figure = figures.attention(picture, weights[0].numpy(), asked, pairs.front_end)

# %%
some = pairs.sounds["test"].take(np.linspace(0, len(pairs.sounds["test"]) - 1, 64).astype(int))
towers = {
    "encoder of sound to image": shown["S2I"].encoder.tower,
    "discriminator of image to sound": shown["I2S"].discriminator.tower,
}
far = {name: evaluation.reach(evaluation.attention_to(tower, some)) for name, tower in towers.items()}
far = pd.DataFrame.from_dict(far, orient="index")
far.style.format(precision=2)

# %% [markdown]
# The table has the mean distance that attention bridges on 64 held-out sounds, as a share of what
# an even spread would bridge: 1 is everywhere alike, 0 the own row or column only.
#
# ## As sound
#
# A generated spectrogram has no phases, and neighbouring frames that may not fit together. Mel
# power is spread over frequencies by non-negative least squares and phases come from Griffin and
# Lim's algorithm {cite:p}`griffin1984signal`. The last player is a real spectrogram that went
# through the same: what is lost there is lost to the way back, not to the generator.

# %%
made = grids["I2S"]["with attention, sound"][:, 0]
real = grids["I2S"]["a real sound"][:, 0]
heard = [(f"made from an image of {pairs.class_names[k]}", made[k]) for k in range(5)]
heard.append((f"a real {pairs.class_names[0]}, there and back", real[0]))
waves = [waveform_of(torch.from_numpy(values), pairs.front_end) for _, values in heard]
sounds = [player.Sound(wave, caption) for (caption, _), wave in zip(heard, waves)]
player.captioned(sounds, pairs.front_end.sr, study.LICENCES[pairs.name])

# %% mystnb={"figure": {"name": "fig-11-resynthesis", "caption": "A generated spectrogram, the sound made from it, and the spectrogram of that sound."}, "image": {"alt": "Three panels: a spectrogram, a waveform, and a spectrogram that resembles the first."}}
again = pictures_of(torch.from_numpy(waves[0])[None], pairs.front_end)[0, 0].numpy() / 127.5 - 1
figure = figures.resynthesis(made[0], again, waves[0], pairs.front_end)

# %% tags=["hide-input"]
s2i, i2s = (tables[way].loc[attending[way].name] for way in DIRECTIONS)
s2i_plain, i2s_plain = (tables[way].loc[plain[way].name] for way in DIRECTIONS)
s2i_effect, i2s_effect = (effects[way].loc["all"] for way in DIRECTIONS)
back_db = float(np.abs(again - made[0]).mean()) * pairs.front_end.top_db / 2
seeds_say = "not known, as there is one"
if len(settings.seeds) > 1:
    signs = [np.sign(table.difference.drop("all")).nunique() for table in effects.values()]
    verb = "is the same for all seeds" if max(signs) == 1 else "is not the same for all seeds"
    apart = study.between_seeds(verdicts)
    seeds_say = f"up to {apart:.1f} points, and the sign of the change {verb}"

# %% tags=["hide-input"]
metrics = {
    "xm_pairs": pairs.name,
    "xm_width": settings.width,
    "xm_steps": settings.steps,
    "xm_seeds": len(settings.seeds),
    "xm_seeds_say": seeds_say,
    "xm_runs": len(runs),
    "xm_minutes": Metric(minutes, "min"),
    "xm_s2i_sources": int(s2i.sources),
    "xm_s2i_strength": augmentation["S2I"],
    "xm_i2s_strength": augmentation["I2S"],
    "xm_guessing": Metric(100 / len(pairs.class_names), "%"),
    "xm_best_stage": stages.difference.idxmax(),
    "xm_best_stage_effect": Metric(stages.difference.max(), "points"),
    "xm_worst_stage": stages.difference.idxmin(),
    "xm_worst_stage_effect": Metric(stages.difference.min(), "points"),
    "xm_reach_time": far.time.iloc[0],
    "xm_reach_frequency": far.frequency.iloc[0],
    "xm_back_db": Metric(back_db, "dB"),
}

# %% tags=["hide-input"]
for way, found, without, gain in (
    ("s2i", s2i, s2i_plain, s2i_effect),
    ("i2s", i2s, i2s_plain, i2s_effect),
):
    n, ends = int(found.pictures), (found.low, found.high)
    metrics |= {
        f"xm_{way}_accuracy": Metric(found.accuracy, "%", n, ends),
        f"xm_{way}_low": Metric(found.low, "%"),
        f"xm_{way}_high": Metric(found.high, "%"),
        f"xm_{way}_pictures": n,
        f"xm_{way}_understood": Metric(found.understood, "%", n),
        f"xm_{way}_without": Metric(without.accuracy, "%", n, (without.low, without.high)),
        f"xm_{way}_judge": Metric(of_judge[way.upper()]["accuracy"], "%"),
        f"xm_{way}_effect": Metric(gain.difference, "points", n, (gain.low, gain.high)),
        f"xm_{way}_poster": Metric(published[way.upper()].accuracy["SA-CMGAN"], "%"),
        f"xm_{way}_poster_low": Metric(published[way.upper()].low["SA-CMGAN"], "%"),
        f"xm_{way}_poster_high": Metric(published[way.upper()].high["SA-CMGAN"], "%"),
    }
every = pd.concat(tables, names=["direction", "run"])
chosen = pd.concat(validation, names=["direction"])
chapter.publish(
    metrics, accuracies=every, attention=effect, stages=stages, reach=far, validation=chosen
)

# %% [markdown]
# ## What we learned
#
# - On {glue:text}`xm_pairs` pairs, networks of {glue:text}`xm_width` times the published width and
#   {glue:text}`xm_steps` steps draw {glue:text}`xm_s2i_accuracy:.1f` % of
#   {glue:text}`xm_s2i_pictures` held-out sounds as the right class (95 % interval
#   {glue:text}`xm_s2i_low:.1f` to {glue:text}`xm_s2i_high:.1f`), and sound
#   {glue:text}`xm_i2s_accuracy:.1f` % of {glue:text}`xm_i2s_pictures` held-out images
#   ({glue:text}`xm_i2s_low:.1f` to {glue:text}`xm_i2s_high:.1f`); guessing gets
#   {glue:text}`xm_guessing:.1f` %. All {glue:text}`xm_runs` trainings took
#   {glue:text}`xm_minutes:.0f` minutes.
# - What the encoder takes for another class is drawn right only by luck: it understands
#   {glue:text}`xm_s2i_understood:.1f` % of those sounds and {glue:text}`xm_i2s_understood:.1f` % of
#   the images. The judges get {glue:text}`xm_s2i_judge:.1f` % of real held-out images and
#   {glue:text}`xm_i2s_judge:.1f` % of real held-out sounds right, so a verdict is no truth.
# - Attention at 64 channels changes sound to image by {glue:text}`xm_s2i_effect:.1f` points
#   (95 % interval {glue:text}`xm_s2i_effect_low:.1f` to {glue:text}`xm_s2i_effect_high:.1f`) and
#   image to sound by {glue:text}`xm_i2s_effect:.1f` ({glue:text}`xm_i2s_effect_low:.1f` to
#   {glue:text}`xm_i2s_effect_high:.1f`), over {glue:text}`xm_seeds` seed(s). The intervals are over
#   inputs, of these trainings only. What the seed alone changes: {glue:text}`xm_seeds_say`.
# - Of the stages, the best for sound to image is {glue:text}`xm_best_stage`
#   ({glue:text}`xm_best_stage_effect:.1f` points against none), the worst
#   {glue:text}`xm_worst_stage` ({glue:text}`xm_worst_stage_effect:.1f`). The poster's order is 64
#   first, falling to 512. Each was trained once, so this, too, is to be read beside the seed's share.
# - The poster prints {glue:text}`xm_s2i_poster:.1f` % and {glue:text}`xm_i2s_poster:.1f` % for
#   Sub-URMP, each of 64 pictures: intervals {glue:text}`xm_s2i_poster_low:.1f` to
#   {glue:text}`xm_s2i_poster_high:.1f` and {glue:text}`xm_i2s_poster_low:.1f` to
#   {glue:text}`xm_i2s_poster_high:.1f`. Other data, another judge and networks of another size:
#   the numbers stand side by side, they are not a contest.
#
# ## Exercises
#
# 1. Draw 64 held-out inputs at random, many times, and count the right ones each time. How far
#    apart are two such counts of the same network?
# 2. Train with `seeds` of your own in `esc_lib/companions/crossmodal/settings.py`. Which is larger,
#    the difference between seeds or the one that attention makes?
# 3. Give the judge of sounds the held-out speakers as well, as training data. Predict first whether
#    the accuracy of image to sound rises.
# 4. Interpolate between the codes of two sounds and look at what is drawn on the way.
