# %% [markdown]
# # Portraits of classes
#
# **Question: by which few spectra does the network know a class, and do they hold on clips that
# nobody looked at?**
#
# **What was found:** {glue:text}`portrait_found`.
#
# {doc}`08_faithfulness_and_listening` explains one decision at a time, and asks the network's gradient
# each time. Here a class gets a handful of atoms once, from training clips; on a new clip their share
# of $WH$ alone says where the class should be. It is the one place where a dictionary over a hidden
# layer could give what a gradient cannot: something that a person can learn by heart. The thesis's
# section 4.3.3 names filters for groups of classes and does not test them.
#
# Before it: {doc}`03_training`. Run time: half a minute for the procedural clips; for real clips
# minutes.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
start_from = ""  # folder of a recorded study, as results/esc10: read its judged portraits
n_classes = 4  # shown and played
n_atoms = 5  # of the portraits that are shown and compared

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import torch

from esc_lib.explain import Explainer, by_energy, gallery, masks, portraits, take
from esc_lib.figures import explanations as figures
from esc_lib.figures.html import player
from esc_lib.sound import mel_frequencies_hz
from esc_lib.study import Chapter, Metric, source

chapter = Chapter("15_portraits", profile, artifacts, epochs, needs=["captum"])
settings, data, model = chapter.settings, chapter.data, chapter.model
device, front_end = chapter.device, chapter.front_end
names = np.array([name.replace("_", " ") for name in data.class_names])

# %% [markdown]
# ## A handful of atoms per class
#
# The dictionary is the best non-negative one for the $H$ of the main layer, fitted on training clips.
# Of the atoms that speak most for a class there (by gradient, on training clips only), the portrait
# takes one after the other: always the one with which the class's log-odds are highest when no more
# than a fifth of each training clip's energy is left.

# %% tags=["hide-input"]
source(portraits.choose)

# %% tags=["remove-stderr"]
tables = chapter.root / "portraits"
drawn = gallery.examine(data, settings, chapter.runs, tables)
spectra = drawn.fitted.w.cpu().numpy()
shown = np.arange(len(names))[:: max(1, len(names) // n_classes)][:n_classes]

# %% mystnb={"figure": {"name": "fig-15-spectra", "caption": "Portraits: the spectra of the first atoms of some classes, the first one on top, each divided by its own peak."}, "image": {"alt": "A panel per class with a few spectra as filled curves over frequency, one below the other."}}
bands_hz = mel_frequencies_hz(settings.front_end).numpy()
of_class = {names[c]: spectra[:, drawn.atoms[c, :n_atoms]] for c in shown}
figure = figures.portraits(of_class, bands_hz)

# %% [markdown]
# ## Listen to them
#
# On test clips that the network was never shown: the clip, and what its class's portrait keeps, a fifth
# of its energy.

# %%
test = data.split.test
rows = np.array([test[data.labels[test].numpy() == c][0] for c in shown])
heard = take(data, rows, "clean", settings.front_end.sr, device=device)
asked = Explainer(model, front_end, {}, heard, torch.from_numpy(shown).to(device))
heat = portraits.heats(asked, drawn, asked.targets, n_atoms)[portraits.OURS]
(mask,) = by_energy(asked, heat, [portraits.ENERGY])
kept = masks.cut_out(front_end, heard.waveforms, mask)
player.pictured(
    player.of_parts(front_end, [heard.waveforms, kept], heard.n_valid, names[shown].tolist()),
    settings.front_end, settings.licence,
    limits=(-60, 0), headings=["clip", "what its portrait keeps"],
)  # fmt: skip

# %% [markdown]
# ## Do they hold?
#
# Every method keeps the same share of the energy of the same test clips, the label's portrait being
# known. Controls: as many *random atoms*; the same atoms with $H = 1$, which keeps their spectra and
# drops their times, and with the rows of $H$ permuted, which drops the link between them; and, without
# any atom, the class's *mean spectrum* relative to all clips and its *mean gradient*. Nothing was
# chosen on test clips. Where several networks were judged (`python -m esc_lib portraits`), the one of
# most folds is shown.

# %%
every = gallery.collect(tables, Path(start_from) if start_from else None)
counts = every.groupby("network").fold.nunique()
judged = every[every.network == counts.idxmax()]  # the network of most folds
table = gallery.compare(judged)
counts.rename("folds").to_frame()

# %% mystnb={"figure": {"name": "fig-15-kept", "caption": "Test clips whose decision is the label when a fifth of the energy is left, by the number of atoms in a portrait (left), and clips of other classes that a portrait turns to its class (right); 95 % intervals over source recordings. Dashed: without atoms."}, "image": {"alt": "Two panels of lines over 1, 2, 5 and 10 atoms, for portraits and controls, with two dashed horizontal lines."}}
figure = figures.portraits_kept(table)

# %%
table.xs("mean", axis=1, level=1).style.format("{:.2f}")

# %% tags=["hide-input"]
gaps = gallery.ahead(judged, "stays", n_atoms) * 100
own = table.loc[portraits.OURS, n_atoms]
n_clips = len(judged[["fold", "row"]].drop_duplicates())
metrics = {
    "portrait_found": gallery.sentence(judged, n_atoms),
    "portrait_folds": int(counts.max()),
    "portrait_clips": n_clips,
    "portrait_stays": Metric(own["stays", "mean"], "%", n_clips, tuple(own["stays"][["low", "high"]])),
    "portrait_turned": Metric(own["turned", "mean"], "%", n_clips, tuple(own["turned"][["low", "high"]])),
    "portrait_kept": Metric(own["kept", "mean"], "", n_clips, tuple(own["kept"][["low", "high"]])),
}
for name, gap in gaps.iterrows():
    key = f"portrait_ahead_{name.lower().replace(' ', '_').replace('=', 'is')}"
    metrics[key] = Metric(gap["mean"], "points", n_clips, (gap.low, gap.high))
chapter.publish(metrics, kept=table, ahead=gaps)

# %% [markdown]
# ## What we learned
#
# - On {glue:text}`portrait_clips:d` test clips: {glue:text}`portrait_found`.
# - What a portrait keeps changes the log-odds of its class by {glue:text}`portrait_kept:.2f`
#   ({glue:text}`portrait_kept_low:.2f` to {glue:text}`portrait_kept_high:.2f`): a fifth of the energy is rarely enough.
# - A portrait that turned as many clips of other classes to its class as it keeps of its own would
#   say nothing: here {glue:text}`portrait_turned:.0f` % against {glue:text}`portrait_stays:.0f` %.
#
# ## Exercises
#
# 1. Name the class from the spectra of {numref}`fig-15-spectra` with its title covered.
# 2. Draw portraits over another layer: change `Dictionaries.layer`. Is there one that beats every
#    control?
# 3. Which atoms stand in the portraits of several classes? Do these classes get confused?
