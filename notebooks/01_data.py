# %% [markdown]
# # The data
#
# **Question: which sounds do we study, and what must not stand on both sides of a split?**
#
# This notebook decodes every clip once, verifies it, cuts the set into training, validation and
# test clips, and measures how much a careless cut would leak. It mirrors section 4.1 of the thesis
# (figure 4.1, table 4.1).
#
# Before it: nothing. Run time: seconds for the procedural clips, about a minute for ESC-50.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
data_folder = ""  # folder with audio/ and meta/data.csv; empty: made or downloaded
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts

# %% tags=["hide-input"]
import numpy as np
import torch
from IPython.display import display

from esc_lib import data
from esc_lib.figures import data as figures
from esc_lib.figures.html import player
from esc_lib.study import Chapter, Metric

chapter = Chapter("01_data", profile, artifacts, needs=["seaborn"])
settings = chapter.settings

# %% [markdown]
# ## Read and verify
#
# A clip is one file of the set; a *source recording* is the longer recording it was cut from. The
# table gives each clip's fold, class and source recording. Decoding finds what a table cannot say:
# files that are missing, truncated or silent, odd durations, other sample rates. A clip that cannot
# be decoded stops the study here, with its name.

# %% tags=["remove-stderr"]
source = data.prepare(profile, data_folder)
clips = data.read_clips(source, esc10_only=settings.esc10_only)
settings = data.labelled(settings, clips)
own = settings.front_end
decoded = data.decode(clips, own.sr, own.n_samples, chapter.folder / data.WAVEFORMS)
verdict = data.describe(clips, decoded.report)
print("\n".join(verdict))

# %% [markdown]
# The characteristics, as the thesis lists them in its table 4.1. Durations are measured, not
# assumed: the thesis says both that clips vary between 1 and 5 s and that each is exactly 5 s.

# %%
data.characteristics(clips, decoded.report)

# %% mystnb={"figure": {"name": "fig-01-levels", "caption": "Durations (left, counts on a logarithmic axis) and levels (right) of all clips. Peak levels near 0 dB mean that clips were normalised one by one, so loudness tells classes apart only within a clip."}, "image": {"alt": "Two histograms. Left: nearly all clips share one duration, with a few shorter and longer ones. Right: distributions of peak and root-mean-square level in decibels, the peak level to the right of the other."}}
figure = figures.levels(decoded.report)

# %% [markdown]
# ## One clip of each class
#
# The first clip of fold 1 in each class, as the log-mel spectrogram that {doc}`02_features` derives
# step by step. Listen while you look: which classes would you confuse?

# %%
first = clips[clips.fold == clips.fold.min()].drop_duplicates("label").sort_values("label")
rows = first.index.to_numpy()
waveforms = torch.from_numpy(decoded.waveforms[rows]).float() / 32768
n_valid = torch.from_numpy(decoded.n_valid[rows])
log_mel = chapter.front_end(waveforms, n_valid).cpu().numpy()

# %% mystnb={"figure": {"name": "fig-01-gallery", "caption": "One clip per class (fold 1): mel power on one colour scale for all panels. Steady bands, harmonic stacks, clicks and swells are all present. Answers thesis figure 4.1."}, "image": {"alt": "A grid of log-mel spectrograms, one per class, time to the right and frequency upwards. Some show horizontal harmonic lines, some vertical strokes, some broad bands of noise."}}
figure = figures.gallery(log_mel, first.category.tolist(), settings.front_end)

# %%
heard = first.iloc[:: max(1, len(first) // 5)]
sounds = [
    player.Sound(
        decoded.waveforms[row][: decoded.n_valid[row]] / 32768,
        f"{clips.category[row].replace('_', ' ')}: {clips.filename[row]}",
    )
    for row in heard.index
]
player.captioned(sounds, settings.front_end.sr, settings.licence)

# %% [markdown]
# ## Folds
#
# The set comes in five folds with as many clips of each class in each. The standard result is the
# mean over five runs, each fold serving once as test {cite:p}`piczak2015esc`.

# %% mystnb={"figure": {"name": "fig-01-folds", "caption": "Clips per class and fold. Every cell holds the same number: the set is balanced by construction."}, "image": {"alt": "A table drawn as a heat map with a row per class and a column per fold; all cells show the same count and colour."}}
figure = figures.fold_table(clips)

# %% [markdown]
# ## Source recordings, and what leaks
#
# Several clips may be cut from one source recording. Two of them sound alike in room, microphone and
# individual: a network that has seen one in training recognises the other without having learned
# the class. The folds keep recordings together, apart from a few that straddle two folds:

# %%
shared = data.shared_sources(clips)
straddling = data.straddling_sources(clips)
display(straddling[["src_file", "filename", "fold", "category"]].reset_index(drop=True))

# %% [markdown]
# For validation the thesis takes a random fifth of the clips outside the test fold. We take a fifth
# of the *source recordings*, classes kept in balance, and drop from training and validation every
# recording that also stands in the test fold.

# %%
test_fold, seed = settings.test_fold, settings.training.seed
share = settings.training.validation_share
parts = {
    name: data.split(clips, test_fold, protocol=name, validation_share=share, seed=seed)
    for name in data.COMPARED
}
leak = {name: data.leaked_share(clips, split) for name, split in parts.items()}
clips["part"] = data.name_parts(clips, parts[settings.training.protocol])

# %% mystnb={"figure": {"name": "fig-01-leak", "caption": "Left: clips in each part of the split used from here on. Right: share of validation clips that have a sibling from the same recording among the training clips, for the source-grouped cut and for the thesis's random cut."}, "image": {"alt": "Left: three bars with the number of training, validation and test clips. Right: two bars; the source-grouped cut leaks nothing, the random cut leaks a considerable share."}}
figure = figures.parts(clips, leak["source_grouped"], leak["random_clips"])

# %% tags=["hide-input"]
data.save_data(chapter.folder, clips, decoded.waveforms, decoded.n_valid)
duration_s = decoded.report.duration_s
chapter.publish(
    {
        "dataset_label": settings.dataset_label,
        "clips": len(clips),
        "classes": int(clips.label.nunique()),
        "folds": int(clips.fold.nunique()),
        "shared_source_pct": Metric(100 * float(shared.mean()), "%", len(clips)),
        "straddling_sources": int(straddling.src_file.nunique()),
        "duration_min_s": Metric(float(duration_s.min()), "s", len(clips)),
        "duration_max_s": Metric(float(duration_s.max()), "s", len(clips)),
        "silent_clips": int(np.sum(decoded.report.silent)),
        "random_split_leak_pct": Metric(100 * leak["random_clips"], "%"),
        "grouped_split_leak_pct": Metric(100 * leak["source_grouped"], "%"),
    },
    verification=decoded.report,
)

# %% [markdown]
# ## What we learned
#
# - The set of this build is {glue:text}`dataset_label`: {glue:text}`clips` clips in
#   {glue:text}`classes` classes and {glue:text}`folds` folds, {glue:text}`duration_min_s:.2f` to
#   {glue:text}`duration_max_s:.2f` s long; {glue:text}`silent_clips` of them are silent.
# - {glue:text}`shared_source_pct:.1f` % of the clips share their source recording with another
#   clip; recordings that stand in more than one fold: {glue:text}`straddling_sources`.
# - A random validation cut puts {glue:text}`random_split_leak_pct:.1f` % of the validation clips
#   beside a training clip from the same recording; the source-grouped cut
#   {glue:text}`grouped_split_leak_pct:.1f` %. Only the second is used to choose anything.
#
# ## Exercises
#
# 1. Before running: guess from {numref}`fig-01-gallery` which two classes will be confused most,
#    then compare with the confusion matrix of {doc}`06_evaluation`.
# 2. Change the seed of the split in `esc_lib/config.py`. How much does the random cut's leak vary?
# 3. Point `data_folder` at recordings of your own in the same layout and read the verification.
