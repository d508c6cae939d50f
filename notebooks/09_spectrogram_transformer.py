# %% [markdown]
# # A spectrogram transformer
#
# **Question: what does freezing the encoder of a spectrogram transformer save, what does it cost,
# and where do its heads look?**
#
# The audio spectrogram transformer {cite:p}`gong2021ast` cuts a mel spectrogram into patches and
# treats them as an image transformer treats those of a picture. At full size it starts from weights
# taught on two million clips. Without them, a small one with 8 layers of 8 heads is taught here: in
# a first step it fills in hidden patches, without labels; then it learns the classes, with all, some
# or none of its encoder frozen. Last, its attention is drawn and measured.
#
# Before it: {doc}`01_data`. Run time: half a minute for the procedural clips; for real clips half an
# hour and more without a GPU. What was taught is found again in a second run.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
pretrained_name = ""  # weights from elsewhere: a name on the Hugging Face hub, or a folder
clip = ""  # file name of the clip that is drawn; empty: the validation clip that changes most

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from esc_lib.companions import transformer
from esc_lib.companions.transformer import attention, figures
from esc_lib.config import shortened
from esc_lib.figures import interval_rows
from esc_lib.study import Chapter, Metric

needs = ["lightning_fabric"]  # imported late
chapter = Chapter("09_spectrogram_transformer", profile, artifacts, epochs, needs=needs)
settings, data, device = chapter.settings, chapter.data, chapter.device
plan, front_end = shortened(transformer.of_profile(profile), epochs), settings.front_end
n_classes, first_fold = len(data.class_names), plan.folds[0]
study = transformer.Study(data, settings, plan)
split, network = study.of_fold(first_fold).split, study.fresh()

# %% [markdown]
# ## From spectrogram to patches to tokens
#
# Squares of 16 mel bands by 16 frames are cut out every ten bands and ten frames, so that neighbours
# overlap. A dense layer maps the 256 values of each patch to a token, and what is learned for its
# place is added. Two tokens without a patch stand in front; layers of attention then let every token
# look at all others. Excerpts are cut from the sounding part of a clip.

# %%
grid = attention.PatchGrid.of(network, front_end, plan.n_frames)
validation_db = study.excerpts(split.validation, db=True)
drawn = int(validation_db.std(dim=-1).mean(dim=(1, 2, 3)).argmax())
if clip:
    drawn = data.clips.filename.iloc[split.validation].tolist().index(clip)
clip = data.clips.iloc[split.validation[drawn]]
log_mel = validation_db[drawn, 0, 0].numpy()
print(f"drawn here: {clip.filename}, {clip.category.replace('_', ' ')} ({settings.licence})")

# %% mystnb={"figure": {"name": "fig-09-patches", "caption": "Above, an excerpt of a validation clip and the middles of all patches; below, four patches enlarged, on the same scale. The first three are neighbours and share points."}, "image": {"alt": "A mel spectrogram with a lattice of white dots and four coloured boxes, and under it the four squares cut out of it."}}
row, column = grid.rows // 2, grid.columns // 2
places = [(row, column), (row, column + 1), (row - 1, column), (0, 0)]
figure = figures.patches(log_mel, grid, tuple(grid.patch(*place) for place in places))

# %% [markdown]
# The published network has 12 layers of 12 heads and is 768 wide; the small one has 8 layers of
# 8 heads and is 192 wide. What one training step costs grows with parameters and patches.

# %%
with torch.device("meta"):  # shapes only
    full_size = transformer.full_ast(50)
full_grid = 12, 50  # of five seconds at the publication's hop of 10 ms
sizes = pd.DataFrame(
    {
        "layers": [len(full_size.encoder.layers), len(network.encoder.layers)],
        "width": [full_size.config.hidden_size, network.config.hidden_size],
        "patches": [int(np.prod(full_grid)), len(grid)],
        "parameters (M)": [transformer.n_trainable(n) / 1e6 for n in (full_size, network)],
    },
    index=["published, 50 classes", f"small, {n_classes} classes"],
)
sizes.style.format(precision=2)

# %% [markdown]
# ## Taught without labels
#
# A frozen encoder is worth what it learned before. Published weights come from other data; offline,
# the training clips are all there is. Half of the patches of an excerpt are hidden, in squares of
# three by three, as single patches could be guessed from the edges that they share with neighbours;
# the network fills them in {cite:p}`gong2022ssast,he2022mae`. No label is used. For each test fold
# there is an encoder of its own, taught on that fold's training clips: test clips stay unheard.

# %% tags=["remove-stderr"]
taught = {fold: study.teach(fold, chapter.cache / "pretraining") for fold in plan.folds}
history = taught[first_fold].history
model = taught[first_fold].model

# %% mystnb={"figure": {"name": "fig-09-pretraining", "caption": "Squared error on hidden patches by epoch for the first test fold's encoder. The dotted line is one who fills in the clip's mean everywhere."}, "image": {"alt": "Two lines over the epochs, of training and of validation clips, under a dotted horizontal line at one."}}
figure = figures.pretraining(history)

# %% mystnb={"figure": {"name": "fig-09-reconstruction", "caption": "The validation clip: the excerpt, what is left of it when half of the patches are hidden, and the network's guess. A smooth guess is the best one where details cannot be known."}, "image": {"alt": "Three mel spectrograms side by side: complete, with grey holes, and with the holes filled by smooth texture."}}
features = study.excerpts(split.validation[[drawn]])[:, 0]
generator = torch.Generator().manual_seed(1)
masked = transformer.random_masks(
    1, model.grid(features), plan.hidden_share, plan.hidden_cluster, generator
)
rebuilt, hidden = model.rebuild(features, masked), model.hidden(features, masked)
figure = figures.reconstruction(
    features[0, 0].numpy(), hidden[0, 0].numpy(), rebuilt[0, 0].numpy(), front_end
)

# %% [markdown]
# ## Frozen against full
#
# From the same taught encoder: everything learns (*full*), the last two layers and the classifier
# learn, or the classifier alone (*frozen*). A *linear probe* is a logistic regression on what the
# encoder says of the plain clips, without augmentation. Two controls: a network that starts from
# scratch, and a probe on a fresh encoder, which shows how far random weights go. All
# networks get the same number of epochs of the same recipe; validation clips set nothing but the
# probe's strength, and the test clips are read once, at the end of each training. One exception:
# the recorded ESC-10 run got more epochs after a shorter one had been read on the first fold's test
# clips, so there they are no first look. After few epochs, as in the demo, networks are near
# guessing: such a build rehearses the comparison.

# %% tags=["remove-stderr"]
judged, networks = [], {}
for fold in plan.folds:
    start = {True: taught[fold].model.network, False: study.fresh()}
    for way in transformer.WAYS:
        networks[fold, way.name], found = study.use(way, fold, start[way.taught], chapter.cache / "runs")
        judged.append(found)

# %% [markdown]
# With `pretrained_name`, weights from elsewhere join in at full size: as a linear probe, and with an
# accelerator at all levels of freezing.

# %% tags=["remove-stderr"]
elsewhere = () if device.type == "cpu" else transformer.LEVELS
for way in (*elsewhere, transformer.PROBE) if pretrained_name else ():
    start = transformer.pretrained(pretrained_name, n_classes)
    for fold in plan.folds:
        _, found = study.use(way, fold, start, chapter.cache / "published")
        judged.append(found.assign(way=f"{pretrained_name}, {way.name}"))

# %% mystnb={"figure": {"name": "fig-09-ways", "caption": "Test accuracy over the folds with its 95 % interval over source recordings; the dotted line is guessing."}, "image": {"alt": "A row per way to use the encoder, each with a dot and a horizontal bar, against a dotted vertical line."}}
judged = pd.concat(judged, ignore_index=True)
tested = transformer.accuracy_table(judged, "test")
figure = interval_rows(tested, "accuracy", "test accuracy (%)", 100 / n_classes)

# %%
validated = transformer.accuracy_table(judged, "validation").accuracy
tested.assign(validation=validated).style.format(precision=1)

# %% [markdown]
# Differences on the same test clips. Each way was trained once per fold: the intervals hold the
# chance in the choice of recordings, not that in the training.

# %%
full, last2, frozen = (way.name for way in transformer.LEVELS)
scratch, probe, probe_fresh = (
    way.name for way in (transformer.SCRATCH, transformer.PROBE, transformer.PROBE_FRESH)
)
pairs = ((full, scratch), (probe, probe_fresh), (last2, full), (frozen, full), (probe, full))
gaps = transformer.differences(judged, pairs)
gaps.style.format(precision=1)

# %% [markdown]
# ## What a step costs
#
# A training step of a batch of excerpts with Adam on this machine. Memory is counted, not estimated:
# gradients, Adam's two means, and what the forward pass keeps for the backward pass. With a frozen
# encoder it keeps nothing of the encoder, and the backward pass ends at the classifier.

# %% tags=["remove-stderr"]
batch = settings.training.recipe.batch_size
some = study.excerpts(split.train[:batch])[:, 0].to(device)
targets = data.labels[split.train[:batch]].to(device)
step = transformer.costs(networks[first_fold, full].to(device), some, targets, repeats=3)
step.index = [full, last2, frozen]
shown = step.dropna(axis=1, how="all").join(tested[["accuracy", "low", "high"]])
ratios = ["time_ratio", "memory_ratio"]
shown.style.format(precision=2, thousands=",").format("{:.4f}", subset=ratios)

# %% mystnb={"figure": {"name": "fig-09-freezing", "caption": "What each level of freezing takes and how well it does: parameters that learn, time of a training step, memory beyond the weights, and test accuracy with its 95 % interval over source recordings."}, "image": {"alt": "Three groups of horizontal bars that shrink from full over the last two layers to frozen, and a panel with a dot and bar for the accuracy of each."}}
figure = figures.freezing(step.join(tested))

# %% [markdown]
# The same step at full size, on random input of the publication's size: costs do not depend on what
# is heard. A profile can leave it out.

# %% tags=["remove-stderr"]
if plan.full_batch:
    torch.manual_seed(0)
    noise = torch.randn(plan.full_batch, 1, 128, 512, device=device)
    none = torch.zeros(plan.full_batch, dtype=torch.long, device=device)
    full_step = transformer.costs(transformer.full_ast(50).to(device), noise, none, repeats=1)
    shown = full_step.dropna(axis=1, how="all")
    display(shown.style.format(precision=2, thousands=",").format("{:.4f}", subset=ratios))
else:
    print(f"profile {profile}: left out")

# %% [markdown]
# ## Where the heads look
#
# Pictures like the next one are drawn to show that heads look near in early layers, and far and
# across frequencies in late ones. Frequency runs to the right, time upwards, and each head has a
# copy of the excerpt. Only attention between patches is shown.

# %% mystnb={"figure": {"name": "fig-09-heads", "caption": "Attention of layers 1, 4 and 8 of the network in which everything learned, on the validation clip. Upper row: one patch (dot) and the four that each head attends to most. Lower row: three patches, from low (yellow) over middle (red) to high frequencies (purple); arcs lead from the head that decides most clearly to the patch that each head attends to most. Thicker is more attention, on one scale."}, "image": {"alt": "A mel spectrogram above two rows of three panels; every panel holds eight grey copies of it with boxes, dots and arcs between them."}}
layers = (1, 4, 8)
trained = networks[first_fold, full]
among = attention.between_patches(attention.attentions(trained, features))[:, 0].numpy()
asked = attention.loudest_patches(torch.from_numpy(log_mel), grid, 3)
figure = figures.heads(log_mel, among, grid, asked[1], tuple(asked), layers)

# %% [markdown]
# ## Measured
#
# One picture proves nothing about a layer. For all patches of the middle excerpts of all validation
# clips: how far a head looks in time and in frequency, and how widely (the entropy of its
# attention), before any learning, after filling in patches, and after learning classes from scratch
# and from the taught encoder.

# %%
measured = []
for fold in plan.folds:
    rows = study.of_fold(fold).split.validation
    compared = {
        "fresh": study.fresh(),
        "filling in": taught[fold].model.network,
        scratch: networks[fold, scratch],
        full: networks[fold, full],
    }
    measured.append(study.look(compared, rows).assign(fold=fold))
measured = pd.concat(measured, ignore_index=True)
alike = attention.uniform(grid)

# %% mystnb={"figure": {"name": "fig-09-reach", "caption": "Mean distance in time and in frequency, and entropy, of every head (small marks, means over validation clips) and of every layer (lines), for the first test fold's networks. The grey line is a head that looks at all patches alike."}, "image": {"alt": "Three panels over layers one to eight, each with four lines among small marks, and a dotted grey horizontal line."}}
of_first = measured[measured.fold == first_fold].groupby("network", sort=False)
tables = {name: attention.per_head(table) for name, table in of_first}
figure = figures.reach(tables, alike)

# %% [markdown]
# *Change* is layer 8 minus layer 1 within a clip, over all folds; *low* and *high* are the ends of
# its 95 % interval over source recordings. A change counts if the interval leaves zero out and it is
# not below a twentieth of what a head has that looks at all patches alike (`CLEAR` in
# `esc_lib/companions/transformer/attention.py`).

# %%
by_depth = attention.depth(measured, layers)
by_depth.style.format(precision=2)

# %% tags=["hide-input"]
time_s, octaves, spread = (
    by_depth.loc[full, name] for name in ("time_s", "octaves", "entropy_nat")
)
plain = by_depth.loc["fresh"]
said = [
    attention.in_words(at.change, at.low, at.high, alike[at.name[1]])
    for at in (time_s, octaves, spread)
]
agreement = {2: "holds", 1: "holds by half", 0: "does not hold"}
claim = agreement[said[:2].count("grows")]
n_test, n_look = int(tested.clips[full]), measured.groupby("fold").clip.nunique().sum()
one, gap = 100 / n_classes, gaps.difference

# %% tags=["hide-input"]
sizes_and_costs = {
    "ast_full_parameters_m": Metric(sizes["parameters (M)"].iloc[0], "M"),
    "ast_parameters_m": Metric(sizes["parameters (M)"].iloc[1], "M"),
    "ast_patches": len(grid),
    "ast_tokens": len(grid) + transformer.N_SPECIAL,
    "ast_folds": len(plan.folds),
    "ast_epochs": plan.epochs,
    "ast_pretraining_epochs": plan.pretraining_epochs,
    "ast_hidden_error": Metric(history.validation_loss.iloc[-1], "deviations squared"),
    "ast_step_ms": Metric(step.step_ms[full], "ms"),
    "ast_frozen_time": Metric(100 * step.time_ratio[frozen], "%"),
    "ast_frozen_memory": Metric(100 * step.memory_ratio[frozen], "%"),
    "ast_frozen_trainable": int(step.trainable[frozen]),
    "ast_last2_time": Metric(100 * step.time_ratio[last2], "%"),
    "ast_last2_memory": Metric(100 * step.memory_ratio[last2], "%"),
}
if plan.full_batch:
    sizes_and_costs |= {
        "ast_full_size_time": Metric(100 * full_step.time_ratio["frozen"], "%"),
        "ast_full_size_memory": Metric(100 * full_step.memory_ratio["frozen"], "%"),
    }

# %% tags=["hide-input"]
looks = {"time": time_s, "octaves": octaves, "entropy": spread}
heads_said = (
    {f"ast_{key}_first": Metric(change["l = 1"], "", n_look) for key, change in looks.items()}
    | {f"ast_{key}_last": Metric(change["l = 8"], "", n_look) for key, change in looks.items()}
    | {f"ast_{key}_says": word for key, word in zip(looks, said, strict=True)}
    | {
        "ast_time_fresh": Metric(plain["l = 1"]["time_s"], "s", n_look),
        "ast_time_fresh_change": Metric(plain.change["time_s"], "s", n_look),
        "ast_octaves_fresh_change": Metric(plain.change["octaves"], "octaves", n_look),
        "ast_time_alike": Metric(alike["time_s"], "s"),
        "ast_octaves_alike": Metric(alike["octaves"], "octaves"),
        "ast_entropy_alike": Metric(alike["entropy_nat"], "nat"),
        "ast_claim": claim,
        "ast_look_clips": n_look,
    }
)

# %% tags=["hide-input"]
keys = {"full": full, "last2": last2, "frozen": frozen, "scratch": scratch, "probe": probe}
keys |= {"fresh_probe": probe_fresh}
against = ("pretraining", "teaching", "last2_full", "frozen_full", "probe_full")
chapter.publish(
    sizes_and_costs
    | heads_said
    | {
        f"ast_{key}_accuracy": Metric(
            tested.accuracy[way], "%", n_test, (tested.low[way], tested.high[way])
        )
        for key, way in keys.items()
    }
    | {
        f"ast_{key}_gain": Metric(gap.difference, "points", n_test, (gap.low, gap.high))
        for key, gap in zip(against, gaps.itertuples(), strict=True)
    }
    | {"ast_test_clips": n_test, "ast_chance": Metric(100 / n_classes, "%")},
    judged=judged, ways=tested.join(step, how="left"), differences=gaps, depth=by_depth,
    pretraining=history,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - A small transformer ({glue:text}`ast_parameters_m:.2f` M parameters,
#   {glue:text}`ast_patches` patches; the published one has {glue:text}`ast_full_parameters_m:.2f` M)
#   was taught for {glue:text}`ast_pretraining_epochs` passes without labels and
#   {glue:text}`ast_epochs` with them, once per test fold ({glue:text}`ast_folds`). On hidden patches
#   of validation clips its squared error is {glue:text}`ast_hidden_error:.2f` of the 1 that the
#   clip's mean gives. The publication teaches on two million clips: these accuracies say nothing
#   about its network.
# - A step with a frozen encoder takes {glue:text}`ast_frozen_time:.0f` % of the time and
#   {glue:text}`ast_frozen_memory:.2f` % of the memory beyond the weights; with two layers learning
#   {glue:text}`ast_last2_time:.0f` % and {glue:text}`ast_last2_memory:.0f` %.
# - Frozen gets {glue:text}`ast_frozen_accuracy:.1f` % of {glue:text}`ast_test_clips` test clips
#   right, full {glue:text}`ast_full_accuracy:.1f` %: {glue:text}`ast_frozen_full_gain:.1f` points
#   (95 % interval {glue:text}`ast_frozen_full_gain_low:.1f` to
#   {glue:text}`ast_frozen_full_gain_high:.1f`); two layers
#   {glue:text}`ast_last2_accuracy:.1f` %, a linear probe {glue:text}`ast_probe_accuracy:.1f` %,
#   guessing {glue:text}`ast_chance:.0f` %.
# - Filling in patches first changes full training by {glue:text}`ast_pretraining_gain:.1f` points
#   ({glue:text}`ast_pretraining_gain_low:.1f` to {glue:text}`ast_pretraining_gain_high:.1f`) and a
#   probe, against one on random weights, by {glue:text}`ast_teaching_gain:.1f`
#   ({glue:text}`ast_teaching_gain_low:.1f` to {glue:text}`ast_teaching_gain_high:.1f`). An interval
#   that holds zero leaves the question open.
# - Near in early layers, far and across frequencies in late ones: that {glue:text}`ast_claim` here.
#   From layer 1 to 8 the distance in time {glue:text}`ast_time_says`
#   ({glue:text}`ast_time_first:.2f` to {glue:text}`ast_time_last:.2f` s; all patches alike:
#   {glue:text}`ast_time_alike:.2f` s), that in frequency {glue:text}`ast_octaves_says`
#   ({glue:text}`ast_octaves_first:.2f` to {glue:text}`ast_octaves_last:.2f` octaves; alike:
#   {glue:text}`ast_octaves_alike:.2f`), and the entropy {glue:text}`ast_entropy_says`. Before
#   learning, the change in time is {glue:text}`ast_time_fresh_change:.3f` s.
#
# ## Exercises
#
# 1. Why does the frozen encoder not save all of the time, though nothing of it learns? Which part of
#    a step is left? Time it.
# 2. Set `hidden_share` in `esc_lib/companions/transformer/settings.py` to 0.2 and to 0.8 and compare
#    the linear probes, not the errors on hidden patches. Why can those errors not be compared?
# 3. Give `pretrained_name` the name in `PUBLISHED` of `esc_lib/companions/transformer/network.py`. Does the claim about
#    early and late layers hold there?
# 4. Draw {numref}`fig-09-heads` for the fresh network. Which arcs are left, and what do they mean?
