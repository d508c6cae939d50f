# %% [markdown]
# # From waveform to network input
#
# **Question: what exactly does the network see, and how far is it from the sound?**
#
# One clip is followed through augmentation, log-mel spectrogram, standardisation and padding, and
# our batched front end is held against librosa. Mirrors section 4.2 of the thesis (figures 4.2 to
# 4.10).
#
# Before it: {doc}`01_data`. Run time: seconds.

# %% tags=["parameters"]
profile = "demo"  # demo, esc10, esc50 or esc50-16k
artifacts = ""  # where notebooks hand over; empty: build/<profile>/artifacts

# %% tags=["hide-input"]
from dataclasses import replace

import numpy as np
import torch
from scipy.signal import welch

from esc_lib.config import RECIPES
from esc_lib.figures import features as figures
from esc_lib.figures.html import player
from esc_lib.sound import LogMel, audio, augment, librosa_difference_db, librosa_log_mel
from esc_lib.sound import log_mel as front_ends
from esc_lib.study import Chapter, Metric, source

chapter = Chapter("02_features", profile, artifacts)
settings, data = chapter.settings, chapter.data
augmentation = RECIPES["thesis"].augmentation
front_end = LogMel(settings.front_end)
sr, hop = settings.front_end.sr, settings.front_end.hop_length

# %% [markdown]
# The clip followed here is the first training clip of class 0.

# %%
row = int(np.flatnonzero((data.clips.part == "train") & (data.clips.label == 0))[0])
name = data.clips.category[row].replace("_", " ")
waveform, n_valid = data.batch([row])
n_own = int(n_valid)
print(data.clips.filename[row], f"({name}), {n_own / sr:.2f} s at {sr} Hz")

# %% [markdown]
# ## Noise
#
# White noise has the same power at every frequency, pink noise falls with $1/f$, brown noise with
# $1/f^2$, all from 20 Hz upwards. We shape the spectrum of Gaussian noise, scale it to the wanted distance below the clip's
# own power and add it; the measured spectra confirm the slopes.

# %%
generator = torch.Generator().manual_seed(0)
exponents = torch.tensor(augmentation.noise_exponents)
noise = audio.coloured_noise(exponents, 8 * sr, sr, generator).numpy()
frequencies, density = welch(noise, sr, nperseg=4096)
kept = frequencies > 25
colours = ("white", "pink", "brown")
spectra = {c: 10 * np.log10(d[kept]) for c, d in zip(colours, density, strict=True)}

# %% mystnb={"figure": {"name": "fig-02-noise", "caption": "Measured power density (Welch) of the three noises at equal total power: flat, falling by 3 dB and by 6 dB per octave."}, "image": {"alt": "Three lines over a logarithmic frequency axis: white is horizontal, pink falls, brown falls twice as steeply."}}
figure = figures.noise_spectra(frequencies[kept], spectra)

# %%
noisy = audio.add_noise(
    waveform.expand(3, -1),
    n_valid.expand(3),
    audio.coloured_noise(exponents, waveform.shape[1], sr, generator),
    augmentation.snr_db,
)
added = (noisy - waveform).square().mean(dim=1)
measured_db = 10 * (waveform.square().mean() / added).log10()
print("measured signal-to-noise ratios (dB):", [round(x, 2) for x in measured_db.tolist()])

# %%
own_part = slice(0, n_own)
clip_sounds = {"original": waveform[0], **dict(zip(colours, noisy, strict=True))}
sounds = [
    player.Sound(values[own_part].numpy().clip(-1, 1), f"{name}, {label}")
    for label, values in clip_sounds.items()
]
player.captioned(sounds, sr, settings.licence)

# %% [markdown]
# ## Time shift
#
# A clip is moved by at most a fifth of its length. Nothing wraps around: what leaves on one side is
# lost, and the gap is silence, as if the recorder had been started a little earlier or later.

# %%
offset = int(augmentation.max_shift * n_own)
shifted = audio.shift(waveform, n_valid, torch.tensor([offset]))

# %% mystnb={"figure": {"name": "fig-02-shift", "caption": "A clip and the same clip shifted by the largest allowed offset; the shaded gap is filled with zeros. Answers thesis figure 4.3."}, "image": {"alt": "Two waveforms, one above the other. The lower one is the upper one moved to the right, with a shaded silent gap at its start and its end cut off."}}
figure = figures.time_shift(
    waveform[0, own_part].numpy(), shifted[0, own_part].numpy(), offset / sr, sr
)

# %% [markdown]
# ## The log-mel spectrogram
#
# The short-time Fourier transform, its squared magnitude, a bank of triangular mel filters, and
# decibels with a floor below the clip's maximum ({doc}`../foundations`). All of it is one module
# that takes a batch of waveforms on any device.

# %%
power_db = 10 * front_end.stft(waveform)[0].abs().square().clamp_min(1e-10).log10()
power_db = power_db.clamp_min(power_db.max() - settings.front_end.top_db)
mel_db = 10 * front_end.mel_power(waveform)[0].clamp_min(1e-10).log10()
raw = front_end(waveform, n_valid)[0].numpy()

# %% mystnb={"figure": {"name": "fig-02-extraction", "caption": "Feature extraction step by step on one clip: waveform, power spectrum on a linear frequency axis, the same power gathered into mel bands. Answers thesis figure 4.4."}, "image": {"alt": "Three panels: a waveform, a spectrogram with linear frequency axis whose lower part holds most of the structure, and the mel spectrogram in which that part is stretched."}}
figure = figures.extraction(waveform[0, own_part].numpy(), power_db.numpy(), raw, settings.front_end)

# %% [markdown]
# ### Parity with librosa
#
# The thesis used librosa clip by clip. Ours must give the same numbers: ten clips, compared wherever
# the power is within 60 dB of the clip's maximum.

# %%
rows = data.split.train[:: max(1, len(data.split.train) // 10)][:10]
parity_db = max(librosa_difference_db(front_end, *data.batch([r])) for r in rows)
print(f"largest difference over {len(rows)} clips: {parity_db:.1e} dB")

# %% [markdown]
# ## Length
#
# Five seconds at 44.1 kHz with hop 512 give exactly 431 frames; the thesis takes that as the
# network's width. Shorter spectrograms are padded with their own minimum, longer ones cut. The
# shortest and the longest clip of the set:

# %%
verification = data.clips.assign(n=data.n_valid.numpy())
shortest, longest = int(verification.n.argmin()), int(verification.n.argmax())
source_files = [data.file(r) for r in (shortest, longest)]
whole = [audio.resample(*audio.read(path), sr) for path in source_files]
before = [librosa_log_mel(front_end.settings, y) for y in whole]
after = [front_end(*data.batch([r]))[0].numpy() for r in (shortest, longest)]
titles = [f"{data.clips.filename[r]}" for r in (shortest, longest)]

# %% mystnb={"figure": {"name": "fig-02-length", "caption": "The shortest and the longest clip before (above) and after (below) padding and truncation to the network's width, the dashed line. Answers thesis figures 4.5 and 4.7."}, "image": {"alt": "Four spectrograms. Upper left ends before a dashed line, upper right reaches it or goes beyond; in the lower row both end exactly at the line, the left one filled with a constant dark area."}}
figure = figures.padding(before, after, titles, settings.front_end)

# %% [markdown]
# ## Standardisation
#
# Every clip is shifted and scaled by its own mean and deviation,
#
# $$ \tilde x = \frac{x - \mu(x)}{\sigma(x) + 10^{-6}} , $$
#
# the content of thesis figure 4.6. It removes the recording's level, and with it one more thing:
# multiplying a clip by a constant changes nothing the network sees (unless the clip is so faint that
# the decibel floor of -100 dB cuts in). Any explanation method that merely attenuates the whole clip
# will therefore look perfectly faithful. In the code that runs:

# %% tags=["hide-input"]
source(front_ends.standardise)

# %%
some = data.split.train[:: max(1, len(data.split.train) // 4)][:4]
batch = data.batch(some)
log_mel, inputs = front_end(*batch).numpy(), front_end.features(*batch)[:, 0].numpy()
names = data.clips.category[some].tolist()

# %% mystnb={"figure": {"name": "fig-02-normalisation", "caption": "Distribution of log-mel values of four training clips before and after per-clip standardisation. Level and contrast differ before and agree after; the shape of each distribution stays."}, "image": {"alt": "Two panels with four curves each. Left: the curves lie at different places on the decibel axis. Right: after standardisation they overlap around zero."}}
figure = figures.normalisation(log_mel, inputs, names)

# %% [markdown]
# ## Before and after
#
# The raw spectrogram, the input after augmentation (here forced: noise and shift both on), and
# their signed difference, each standardised so that the difference is one of shape, not of scale.

# %%
always = replace(augmentation, probability=1.0)
forced = augment.augment_waveforms(waveform, n_valid, always, sr, torch.Generator().manual_seed(3))
plain = front_end.features(waveform, n_valid)[0, 0].numpy()
processed = front_end.features(forced, n_valid)[0, 0].numpy()

# %% mystnb={"figure": {"name": "fig-02-raw", "caption": "Log-mel spectrogram of the clip as recorded. Answers thesis figure 4.8."}, "image": {"alt": "Log-mel spectrogram of one clip in decibels."}}
figure = figures.single(raw, settings.front_end, f"{name}: raw", "dB re full scale")

# %% mystnb={"figure": {"name": "fig-02-processed", "caption": "The same clip after noise, shift and standardisation: one input of the network during training. Answers thesis figure 4.9."}, "image": {"alt": "Log-mel spectrogram of the same clip, moved in time, with the quiet regions filled by noise."}}
figure = figures.single(processed, settings.front_end, f"{name}: preprocessed", "deviations")

# %% mystnb={"figure": {"name": "fig-02-difference", "caption": "Preprocessed minus raw, both standardised; red is added energy, blue is removed energy, white is no change. The shift leaves pairs of red and blue, the noise a red floor. Answers thesis figure 4.10."}, "image": {"alt": "Signed difference of two spectrograms in red and blue around white, with red over formerly quiet regions and red and blue pairs where the sound moved."}}
figure = figures.single(
    processed - plain, settings.front_end, "preprocessed - raw", "deviations", signed=True
)

# %% [markdown]
# ## The whole chain
#
# What the training loop does to a batch, in the order in which it does it.

# %%
stages = [
    ("waveform", waveform[0, own_part].numpy()),
    ("noise and shift", forced[0, own_part].numpy()),
    ("mel power in dB", mel_db.numpy()),
    ("floor and padding", front_end(forced, n_valid)[0].numpy()),
    ("standardised", processed),
]

# %% mystnb={"figure": {"name": "fig-02-pipeline", "caption": "The preprocessing chain on one clip, step by step, from waveform to network input. Answers thesis figure 4.2."}, "image": {"alt": "Five numbered panels: waveform, augmented waveform, mel power, the same with a floor, and the standardised spectrogram."}}
figure = figures.pipeline(stages, settings.front_end)

# %% tags=["hide-input"]
chapter.publish(
    {
        "frames": Metric(int(inputs.shape[2]), "frames"),
        "mel_bands": Metric(int(inputs.shape[1]), "bands"),
        "parity_max_db": Metric(float(parity_db), "dB", len(rows)),
        "sample_rate_hz": Metric(sr, "Hz"),
    }
)

# %% [markdown]
# ## What we learned
#
# - The network sees {glue:text}`mel_bands` mel bands by {glue:text}`frames` frames per clip, from
#   sound at {glue:text}`sample_rate_hz` Hz.
# - Our batched front end and librosa differ by at most {glue:text}`parity_max_db:.1e` dB where there
#   is something to hear, so results carry over from one to the other.
# - Level is gone after standardisation, and frequency is warped: an explanation on this grid must be
#   carried back to the linear spectrum before it can be heard.
#
# ## Exercises
#
# 1. What does brown noise at the same ratio do to the mel spectrogram that white noise does not?
#    Predict, then replace the colour in the last chain.
# 2. Set `top_db` to 40 in the profile. Which classes lose their quiet parts?
# 3. Pad with zeros instead of the minimum. What would the network see at the clip's end?
