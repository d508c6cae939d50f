# %% [markdown]
# # Explain your own model
#
# **Question: how does one hear what another model's decision stands on, without changing the model?**
#
# **What was found:** {glue:text}`own_found`.
#
# The chapters before explain one network, whose front end and layers this package knows. Here it
# knows nothing: a model is any function of sounds, (batch, samples), that returns one number per
# class. The explanation works on the *sound*: a mask on the bands and frames of an STFT of its own,
# which any front end inside the model will do with. Where the model lets gradients through, they are
# asked; where it does not, it is only listened to.
#
# Before it: {doc}`01_data`. Run time: a minute for the procedural clips, a few minutes for real ones.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts
n_steps = 150  # of training of the two small models
n_explained = 12  # test clips
n_heard = 2  # of them to listen to

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
import torchaudio
from torch import nn

from esc_lib.explain import SoundExplainer, second_judges
from esc_lib.figures import explanations as figures
from esc_lib.study import Chapter, Metric

chapter = Chapter("18_your_own_model", profile, artifacts)
settings, data = chapter.settings, chapter.data
sr, n_classes = settings.front_end.sr, len(data.class_names)
names = [name.replace("_", " ") for name in data.class_names]
train, test = data.split.train, data.split.test


# %% [markdown]
# ## Three models of other people
#
# A convolutional network on torchaudio's log-mel spectrogram, one on the waveform itself, and a
# logistic regression on the embedding of YAMNet {cite:p}`hershey2017cnn`, which was trained on
# AudioSet by others and hands no gradient out.


# %%
class MelCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(sr, n_fft=1024, hop_length=512, n_mels=64)
        layers = []
        for n, m in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU(), nn.MaxPool2d(2)]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(128, n_classes)

    def forward(self, waves):
        maps = self.features((self.mel(waves) + 1e-4).log()[:, None])
        return self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))


# %%
class RawCNN(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for n, m, width, step in ((1, 32, 64, 16), (32, 64, 16, 4), (64, 64, 8, 4)):
            layers += [nn.Conv1d(n, m, width, step), nn.BatchNorm1d(m), nn.ReLU()]
        self.net, self.head = nn.Sequential(*layers), nn.Linear(128, n_classes)

    def forward(self, waves):
        maps = self.net(waves[:, None])
        return self.head(torch.cat([maps.mean(2), maps.amax(2)], dim=1))


# %% tags=["hide-input", "remove-stderr"]
def trained(model):
    """Train a model on clips that are drawn anew in each step."""
    torch.manual_seed(0)
    model, rng = model(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=n_steps)
    for _ in range(n_steps):
        rows = rng.choice(train, 16, replace=False)
        loss = nn.functional.cross_entropy(model(data.batch(rows)[0]), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def yamnet():
    """Return a function of waves, or None where YAMNet's weights are not installed."""
    judge = second_judges.yamnet(data.with_split(data.split), sr)
    n_valid = data.waveforms.shape[1]
    return judge and (lambda waves: judge(waves, torch.full((len(waves),), n_valid)))


mel, raw, others = trained(MelCNN), trained(RawCNN), yamnet()

# %% [markdown]
# ## Three lines each
#
# What a model returns has to be said (`output`): logits of a softmax unless told otherwise. A
# dictionary over one of its layers is optional: the layer is named as torch names it, and its axes
# as they lie.

# %%
explainers = {
    "mel CNN": SoundExplainer(mel, sr, names=names),
    "raw CNN": SoundExplainer(raw, sr, names=names),
}
some = data.batch(train[:: max(1, len(train) // 64)])[0]
explainers["mel CNN"].fit(some, layer="features.6", layout="b c f t")
explainers["raw CNN"].fit(some, layer="net.5", layout="b c t")
if others:
    explainers["YAMNet"] = SoundExplainer(others, sr, output="probabilities", names=names)

# %%
rows = test[:: max(1, len(test) // n_explained)][:n_explained]
waves, labels = data.batch(rows)[0], data.labels[rows]
explanation = explainers["mel CNN"].attribute(waves[:n_heard])
explanation.show()

# %% mystnb={"figure": {"name": "fig-18-maps", "caption": "One test clip, and what two models go by in it. Left: relevance of each band and frame for the class decided, red for it, blue against it, by integrated gradients; right: the mask that it becomes."}, "image": {"alt": "A spectrogram on top; below it a row per model with a signed map of relevance and a mask in grey shades."}}
of_models = {name: explainers[name].attribute(waves[:1]) for name in ("mel CNN", "raw CNN")}
level = explanation.asked.grid.magnitude(waves[:1])[0].clamp_min(1e-10).log10() * 20
figure = figures.relevance(
    level.numpy(),
    {name: one.relevance[0].numpy() for name, one in of_models.items()},
    {name: one.mask[0].numpy() for name, one in of_models.items()},
    explanation.asked.grid,
)

# %% [markdown]
# The same of the model that takes the waveform, by the atoms of its second layer, and the sounds of
# the two atoms that spoke most for the class of the first clip:

# %%
by_atoms = explainers["raw CNN"].attribute(waves[:n_heard], method="dictionary")
by_atoms.show()

# %%
by_atoms.parts(2).shape  # (sounds, atoms, samples)

# %% [markdown]
# ## All methods, with their controls
#
# `score()` gives what the model makes of what a mask keeps (see {doc}`08_faithfulness_and_listening`),
# beside masks of the same values that explain nothing: their mean everywhere, and the values in random
# places. *Occlusion* silences one cell of bands and frames after the other and needs no gradient; here
# 200 cells, or as many as a budget of seconds allows (`budget_s`).

# %% tags=["remove-stderr"]
tables, right = {}, {}
for name, explainer in explainers.items():
    right[name] = float((explainer.listen(waves).argmax(1) == labels).float().mean())
    methods = ["integrated gradients", "gradient equaliser", "dictionary"]
    for method in methods if name != "YAMNet" else ["occlusion"]:
        clips = waves if method != "occlusion" else waves[:3]
        tables[name, method] = explainer.attribute(clips, method=method, cells=200).score()
scores = pd.concat(tables, names=["model", "method", "mask"]).droplevel("method")
scores.style.format(precision=2)

# %% [markdown]
# Kept decisions (Fid-In) and the gain are to be read beside the controls. A model that was never shown
# silent bands may take any mask for something else: where even the explanation falls below its controls,
# the mask's sound is not what the model learned from, and the map, not the sound, is the explanation.

# %% tags=["hide-input"]
ahead = []
for (name, method), table in tables.items():
    own, rest = table.loc[method, "gain"], table.drop(index=method).gain.max()
    ahead.append(f"{name}, {method}: {own:+.1f} against {rest:+.1f}")
found = (
    "no line of these models was changed; rise of the class's log-odds on what is kept, against the "
    f"better control: {'; '.join(ahead)}"
)
chapter.publish(
    {
        "own_found": found,
        "own_clips": len(rows),
        "own_models": len(explainers),
        "own_right_mel": Metric(100 * right["mel CNN"], "%", len(rows)),
        "own_right_raw": Metric(100 * right["raw CNN"], "%", len(rows)),
    },
    scores=scores,
)

# %% [markdown]
# ## What we learned
#
# - {glue:text}`own_models:d` models of different kinds were explained as they are, on
#   {glue:text}`own_clips:d` test clips, of which the first gets {glue:text}`own_right_mel:.0f` %
#   right, the second {glue:text}`own_right_raw:.0f` %.
# - What each mask is worth: {glue:text}`own_found`.
# - A map that points to a reason and a mask that keeps a decision are two things:
#   {doc}`17_planted_cue` asks for the first, {doc}`08_faithfulness_and_listening` for the second.
#
# From a command line, for a file and a recorded network, a page that needs nothing else:
# `python -m esc_lib hear clip.wav --model results/esc10`.
#
# ## Exercises
#
# 1. Explain a model of your own: what does `SoundExplainer` say if it returns probabilities?
# 2. Give the explainer a coarser grid, `Grid(sr, n_bands=16)`. What becomes of its scores, and why?
# 3. Explain the runner-up class: `attribute(waves, target=...)`. Can you hear a difference?
# 4. Bring a method of your own, for example one of captum's: `method=` takes a function of waves and
#    targets that returns relevance on the grid. Does it beat its controls?
