# %% [markdown]
# # Efficiency
#
# **Question: what does the network cost when it listens, and how small can it get?**
#
# The thesis counts operations and memory and leaves compression and real-time use to future work
# (sections 4.5.4 and 5). Here the trained network is timed on one thread of a processor, from
# waveform to decision; then it is made smaller in three ways: 8-bit integers, fewer channels, and a
# narrow network that learns from the full one. Networks see whole clips here, so that all of them
# get the same input, and are compared on validation clips; the test clips are read once, at the
# end.
#
# Before it: {doc}`03_training`. Run time: half a minute for the procedural clips; for real clips
# minutes on a GPU, an hour or more without. What was trained is found again in a second run.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
epochs = 0  # of every training of the study; 0: as the profile says
hop_s = 0.25  # s from one window of the stream to the next
may_lose = 5.0  # points of validation accuracy

# %% tags=["hide-input"]
import platform

import pandas as pd
import torch

from esc_lib import efficiency
from esc_lib.evaluation import paired_difference
from esc_lib.figures import efficiency as figures
from esc_lib.figures.html import player
from esc_lib.sound import LogMel
from esc_lib.study import Chapter, Metric
from esc_lib.training import accuracy, fit

needs = ["onnx", "onnxruntime", "onnxscript"]  # imported late
chapter = Chapter("13_efficiency", profile, artifacts, epochs, needs=needs)
settings, data, full = chapter.settings, chapter.data, chapter.model.cpu()
short_epochs = settings.efficiency.epochs
front_end = LogMel(settings.front_end)  # on the processor
labels, sources = data.labels.numpy(), data.clips.src_file.to_numpy()
judged = data.split.validation

# %% [markdown]
# ## What listening takes
#
# {doc}`03_training` explains the thesis's counts. Its memory is an estimate for training, where the
# outputs of all layers are kept. To listen, a network needs its weights and, layer by layer, what
# the layer reads and writes.

# %%
grid = settings.front_end.n_mels, settings.front_end.n_frames
cost = efficiency.cost(full, *grid)
working_mb = efficiency.working_memory_mb(full, *grid)
counts = {
    "parameters (M)": cost.parameters / 1e6,
    "multiply-adds per clip (G)": efficiency.multiply_adds(full, *grid) / 1e9,
    "weights (MB)": cost.parameter_mb,
    "activations to train on one clip (MB)": cost.forward_mb,
    "activations to listen (MB)": working_mb,
}
pd.DataFrame({"this build's network": counts}).style.format(precision=2)

# %% [markdown]
# ## One clip on one thread
#
# The same network in three forms: PyTorch (float32, channels last); an ONNX file (float32, batch
# normalisation folded into the convolutions) in ONNX Runtime; and the same file with 8-bit integers
# for weights and maps {cite:p}`jacob2018quantization`, whose ranges are fixed on training clips.
# The real-time *factor* is computing time over the length of the clip: below one, a device keeps
# up.

# %%
forms = list(efficiency.make_forms("full", full, data, settings, chapter.cache / "models").values())
costs = efficiency.costs(forms, data, front_end)
heard = efficiency.features_of(data, front_end, judged)
decided = efficiency.decide(forms, heard)
by_torch, by_onnx = (form.classifier()(heard[:16]) for form in forms[:2])
largest = float((by_torch - by_onnx).abs().max())
print(f"largest difference between the logits of PyTorch and of ONNX: {largest:.1e}")

# %% mystnb={"figure": {"name": "fig-13-latency", "caption": "Median time from waveform to decision for one validation clip on one thread, split into front end (hatched) and network; whiskers are the quartiles of the calls."}, "image": {"alt": "A horizontal bar per form of the network, each beginning with a hatched part of equal length for the front end."}}
figure = figures.latency(costs)

# %%
by_form = costs.join(efficiency.accuracy_table(decided, labels[judged], sources[judged]))
efficiency.presented(by_form).iloc[:, :5].style

# %% [markdown]
# ## A stream
#
# A device does not get clips with a beginning and an end. Validation clips of several classes,
# joined to one recording, are classified window by window, each window as long as most excerpts that
# the network was trained on. A window that spans two clips has no right answer.

# %%
first_of_class = data.clips.loc[judged].drop_duplicates("category").index.to_numpy()
some = first_of_class[:: max(1, len(first_of_class) // 5)][:5]
recording, parts = efficiency.join_clips(data, some, settings.front_end.sr)
window = front_end.of_frames(settings.training.recipe.stages[0].crop_frames or grid[1])
windows = efficiency.listen(forms[1], window, recording, hop_s, data.class_names)
truth = efficiency.truth_of_windows(windows, parts)
right = windows[data.class_names].idxmax(axis=1)[truth.notna()] == truth.dropna()
caption = "validation clips: " + ", ".join(parts.category.str.replace("_", " "))
sound = player.Sound(recording.numpy(), caption)
player.captioned([sound], settings.front_end.sr, settings.licence)

# %% mystnb={"figure": {"name": "fig-13-stream", "caption": "Above, the recording. Below, the probability of each class that occurs in it, every window drawn where it ends: what a listening device knows at that time; white, the first window is not full yet. Orange: what is really heard. Where a clip begins, the decision lags behind by up to a window."}, "image": {"alt": "A waveform with dashed boundaries above a grid of probabilities, with an orange frame from clip to clip that the bright cells follow."}}
figure = figures.stream(recording.numpy(), settings.front_end.sr, windows, parts)

# %% [markdown]
# ## Fewer channels
#
# Structured pruning {cite:p}`liu2017slimming` keeps the filters of each layer whose batch-norm
# scale is largest; what is left is an ordinary narrower network. It is fine-tuned for a few epochs
# of the recipe `strong`, less its second stage and the running mean of the weights: both need more
# steps than that.

# %% tags=["remove-stderr"]
networks, histories, untuned = {}, {}, {}
for keep in settings.efficiency.keep:
    name = f"pruned-{keep:g}"
    pruned = efficiency.prune_channels(full, keep)
    short = efficiency.short_training(settings, efficiency.settings_of(pruned), short_epochs)
    untuned[name] = accuracy(pruned, front_end, data, judged)
    made = fit(data, short, chapter.cache / "runs" / name, start=pruned)
    networks[name], histories[name] = made.model, made.history
tuned = {name: accuracy(model.cpu(), front_end, data, judged) for name, model in networks.items()}
pd.DataFrame({"before fine-tuning": untuned, "after": tuned}).style.format(precision=1)

# %% [markdown]
# ## A teacher
#
# A narrow network is trained from the start, once on the labels alone, once with the full network
# as its teacher {cite:p}`hinton2015distilling`: beside the labels it learns the teacher's softened
# probabilities of all classes for the very same mixed clips (weight and temperature are
# `TEACHER_WEIGHT` and `TEACHER_TEMPERATURE` in `esc_lib/training/classifier.py`).

# %% tags=["remove-stderr"]
narrow = efficiency.short_training(settings, efficiency.narrow_network(settings), short_epochs)
for name, teacher in (("narrow", None), ("taught", full)):
    made = fit(data, narrow, chapter.cache / "runs" / name, teacher=teacher)
    networks[name], histories[name] = made.model, made.history
full = full.cpu()

# %% mystnb={"figure": {"name": "fig-13-learning", "caption": "Validation accuracy by epoch of the short trainings, from one excerpt per clip; the dotted line is the full network on whole clips. A pruned network starts from what the full one has learned."}, "image": {"alt": "A line per small network over the epochs, under a dotted horizontal line for the full network."}}
accuracies = efficiency.accuracy_table(decided, labels[judged], sources[judged]).accuracy
figure = figures.learning(histories, accuracies.iloc[0])

# %% [markdown]
# ## All of them
#
# Each small network as an ONNX file, in float32 and in 8 bit. 8 bit pays where multiplications take
# most of the time; around few channels, converting between floats and integers can cost more than
# it saves. *Agreement* is the share of clips that get the same class as from the full network in
# PyTorch.

# %%
smaller = []
for name, model in networks.items():
    made = efficiency.make_forms(name, model.cpu(), data, settings, chapter.cache / "models")
    smaller += [made[efficiency.ONNX], made[efficiency.INT8]]
costs = pd.concat([costs, efficiency.costs(smaller, data, front_end)])
decided = decided.join(efficiency.decide(smaller, heard))
table = costs.join(efficiency.accuracy_table(decided, labels[judged], sources[judged]))

# %% mystnb={"figure": {"name": "fig-13-trade", "caption": "Validation accuracy (with 95 % interval over source recordings) over the time per clip on one thread, front end included. Colour is the network, shape the engine."}, "image": {"alt": "Dots, squares and diamonds with vertical bars in a plane of accuracy over time on a logarithmic axis."}}
figure = figures.trade(table)

# %%
efficiency.presented(table).iloc[:, :5].style

# %%
efficiency.presented(table).iloc[:, 5:].style

# %% [markdown]
# ## On the test clips, once
#
# The choice is made on validation clips: the smallest file that loses at most `may_lose` points
# against the full network. *Low* and *high* are the ends of the test accuracy's 95 % interval over
# source recordings.

# %%
close = table[table.accuracy >= table.accuracy.iloc[0] - may_lose]
chosen = close.file_mb.idxmin()
test = data.split.test
of_test = efficiency.features_of(data, front_end, test)
decided_test = efficiency.decide(forms + smaller, of_test)
tested = efficiency.accuracy_table(decided_test, labels[test], sources[test])
tested = tested.rename(columns={"accuracy": "test"}).drop(columns="agreement")
final = table[["file_mb", "clip_ms"]].assign(validation=table.accuracy).join(tested)
print("chosen:", ", ".join(chosen))
final.style.format(precision=1).format("{:.2f}", subset=["file_mb", "clip_ms"])

# %% tags=["hide-input"]
torch_form, onnx_form, int8_form = (("full", engine) for engine in efficiency.ENGINES)
n, n_test = len(judged), len(data.split.test)
correct = decided.eq(labels[judged], axis=0)
int8 = paired_difference(correct[int8_form], correct[torch_form], sources[judged])
taught = paired_difference(
    correct["taught", efficiency.ONNX], correct["narrow", efficiency.ONNX], sources[judged]
)
narrowest = f"pruned-{min(settings.efficiency.keep):g}"

# %% tags=["hide-input"]
metrics = {
    "eff_cpu": Metric(f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"),
    "eff_multiply_adds_g": Metric(counts["multiply-adds per clip (G)"], "G"),
    "eff_working_mb": Metric(working_mb, "MB"),
    "eff_front_end_ms": Metric(costs.front_end_ms[torch_form], "ms"),
    "eff_torch_ms": Metric(costs.clip_ms[torch_form], "ms"),
    "eff_onnx_ms": Metric(costs.clip_ms[onnx_form], "ms"),
    "eff_int8_ms": Metric(costs.clip_ms[int8_form], "ms"),
    "eff_real_time_factor": costs.real_time_factor[onnx_form],
    "eff_logit_difference": largest,
    "eff_onnx_mb": Metric(costs.file_mb[onnx_form], "MB"),
    "eff_int8_mb": Metric(costs.file_mb[int8_form], "MB"),
    "eff_int8_agreement": Metric(table.agreement[int8_form], "%", n),
    "eff_int8_change": Metric(int8[0], "points", n, int8[1:]),
    "eff_stream_right": Metric(100 * float(right.mean()), "%", len(right)),
    "eff_stream_windows": len(right),
    "eff_stream_ms": Metric(float(windows.ms.median()), "ms", len(windows)),
    "eff_stream_factor": float(windows.ms.median()) / 1e3 / hop_s,
}

# %% tags=["hide-input"]
every = pd.concat(histories, names=["network"])
chapter.publish(
    metrics
    | {
        "eff_epochs": short_epochs,
        "eff_clips": n,
        "eff_keep": min(settings.efficiency.keep),
        "eff_full_accuracy": Metric(table.accuracy[torch_form], "%", n),
        "eff_untuned_accuracy": Metric(untuned[narrowest], "%", n),
        "eff_pruned_accuracy": Metric(tuned[narrowest], "%", n),
        "eff_narrow_accuracy": Metric(table.accuracy["narrow", efficiency.ONNX], "%", n),
        "eff_teacher_gain": Metric(taught[0], "points", n, taught[1:]),
        "eff_teacher_low": Metric(taught[1], "points"),
        "eff_teacher_high": Metric(taught[2], "points"),
        "eff_may_lose": Metric(may_lose, "points"),
        "eff_chosen": Metric(", ".join(chosen)),
        "eff_chosen_mb": Metric(costs.file_mb[chosen], "MB"),
        "eff_chosen_ms": Metric(costs.clip_ms[chosen], "ms"),
        "eff_chosen_test": Metric(tested.test[chosen], "%", n_test),
        "eff_full_test": Metric(tested.test[torch_form], "%", n_test),
        "eff_test_clips": n_test,
    },
    forms=table, test=final, stream=windows.round(4), histories=every,
)  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - A clip takes {glue:text}`eff_multiply_adds_g:.2f` G multiply-adds and
#   {glue:text}`eff_working_mb:.1f` MB for maps. On one thread ({glue:text}`eff_cpu`) that is
#   {glue:text}`eff_torch_ms:.1f` ms in PyTorch and {glue:text}`eff_onnx_ms:.1f` ms as an ONNX file,
#   {glue:text}`eff_front_end_ms:.1f` ms of it for the front end: a real-time factor of
#   {glue:text}`eff_real_time_factor:.4f`. Times are this machine's; another processor orders the
#   forms differently.
# - In 8 bit the file shrinks from {glue:text}`eff_onnx_mb:.2f` to {glue:text}`eff_int8_mb:.2f` MB,
#   a clip takes {glue:text}`eff_int8_ms:.1f` ms, {glue:text}`eff_int8_agreement:.1f` % of the
#   {glue:text}`eff_clips` validation clips keep their class, and the accuracy moves by
#   {glue:text}`eff_int8_change:.1f` points.
# - In a stream, {glue:text}`eff_stream_right:.1f` % of the {glue:text}`eff_stream_windows` windows
#   that lie within one clip are right; a window takes {glue:text}`eff_stream_ms:.1f` ms,
#   {glue:text}`eff_stream_factor:.4f` of the time until the next.
# - Pruned to a share of {glue:text}`eff_keep` of its channels, the network falls from
#   {glue:text}`eff_full_accuracy:.1f` % to {glue:text}`eff_untuned_accuracy:.1f` %, and
#   {glue:text}`eff_epochs` epochs bring it to {glue:text}`eff_pruned_accuracy:.1f` %; a narrow
#   one from the start gets {glue:text}`eff_narrow_accuracy:.1f` %. A teacher adds
#   {glue:text}`eff_teacher_gain:.1f` points (95 % interval {glue:text}`eff_teacher_low:.1f` to
#   {glue:text}`eff_teacher_high:.1f`; one that holds zero leaves the question open).
# - The smallest file within {glue:text}`eff_may_lose` points of the full network is
#   {glue:text}`eff_chosen`: {glue:text}`eff_chosen_mb:.2f` MB, {glue:text}`eff_chosen_ms:.1f` ms per
#   clip, {glue:text}`eff_chosen_test:.1f` % of {glue:text}`eff_test_clips` test clips against
#   {glue:text}`eff_full_test:.1f` %.
#
# ## Exercises
#
# 1. Before fine-tuning, let a pruned network see training clips in training mode, without
#    gradients, so that its batch normalisation measures its own maps. How much of the loss was due
#    to the old statistics?
# 2. Set `hop_s` to a hundredth of a second. Predict the real-time factor of the stream first.
# 3. Time a batch of eight clips instead of one. Why is the gain so different between the forms?
# 4. Give the small networks ten times the `epochs`. Does the teacher still matter?
