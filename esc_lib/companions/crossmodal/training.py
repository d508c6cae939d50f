"""Train SA-CMGAN: first the encoder as a classifier, then generator against discriminator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.companions.crossmodal.distort import distort
from esc_lib.companions.crossmodal.history import Log
from esc_lib.companions.crossmodal.losses import discriminator_loss, generator_loss
from esc_lib.companions.crossmodal.networks import N_NOISE, Discriminator, Encoder, Generator
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures, draw_partners, from_levels
from esc_lib.machine import hardware


@dataclass(frozen=True)
class Settings:
    """What a run is made of; the defaults are the published ones.

    Attributes
    ----------
    width : float, factor on all channels.
    attention : int, the stage followed by self-attention: 64, 128, 256, 512 or None.
    pool : int, 2 lets attention look at maxima of 2 x 2 places, for a quarter of its cost.
    steps, classifier_steps : int, of the networks against each other, and of the encoder before.
    batch : int, pairs per step.
    learning_rate, generator_rate : float.
    betas : of Adam.
    critic_every : int, the discriminator is trained on every so many steps, the generator on all.
    seed : int
    augmentation : float, how strongly the encoder's pictures are changed; 0, as published: not.
    code_views : int, codes per input that the generator learns from: 1, as published, that of the
        picture itself; more, those of pictures changed by `augmentation` besides.
    one_cycle : float, the rate that the encoder's rises to before it falls; 0, as published: the
        rate stays.
    mixed_precision : bool, convolutions in the machine's fast format.
    log_every : int, steps between two rows of the history.
    """

    width: float = 1.0
    attention: int | None = 64
    pool: int = 1
    steps: int = 12_000
    classifier_steps: int = 8_000
    batch: int = 64
    learning_rate: float = 1e-4
    generator_rate: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)
    critic_every: int = 2
    seed: int = 0
    augmentation: float = 0.0
    code_views: int = 1
    one_cycle: float = 0.0
    mixed_precision: bool = False
    log_every: int = 10


@dataclass
class Trained:
    """Networks after training, in evaluation mode, and how training went.

    Attributes
    ----------
    direction : "S2I" or "I2S".
    settings : Settings
    encoder, generator, discriminator : the networks; codes come from the encoder.
    encoder_history : DataFrame with step, loss, accuracy (of the batches since the last row).
    history : DataFrame with step, seconds, discriminator_loss, generator_loss, and the mean scores
        real, fake and mismatched.
    """

    direction: str
    settings: Settings
    encoder: Encoder
    generator: Generator
    discriminator: Discriminator
    encoder_history: pd.DataFrame
    history: pd.DataFrame


def batches(
    n: int, batch: int, steps: int, seed: list[int]
) -> Iterator[tuple[np.random.Generator, np.ndarray]]:
    """Yield the rows of each step's batch, epoch by epoch in an order of its own, and its chance.

    Parameters
    ----------
    n : int, how many rows there are; a last batch that is not full is left out.
    batch, steps : int
    seed : list of int

    Examples
    --------
    >>> [rows.tolist() for _, rows in batches(4, 2, 2, [0])]
    [[2, 0], [1, 3]]
    """
    batch, done, epoch = min(batch, n), 0, 0
    while done < steps:
        rng = np.random.default_rng([*seed, epoch])
        order = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            if done == steps:
                return
            yield rng, order[start : start + batch]
            done += 1
        epoch += 1


def build(pairs: PairSet, direction: str, settings: Settings) -> Trained:
    """Return fresh networks for a direction; the same seed gives the same weights."""
    inputs, outputs = (side["train"].pixels.shape[1] for side in pairs.sides(direction))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        shape = settings.width, settings.attention, settings.pool
        encoder = Encoder(len(pairs.class_names), inputs, *shape)
        generator, discriminator = Generator(outputs, *shape), Discriminator(outputs, *shape)
    device = hardware.best_device()
    for network in (encoder, generator, discriminator):
        network.to(device, memory_format=torch.channels_last)
    empty = pd.DataFrame()
    return Trained(direction, settings, encoder, generator, discriminator, empty, empty)


def fit(pairs: PairSet, direction: str, settings: Settings) -> Trained:
    """Train both stages on the training part.

    Parameters
    ----------
    pairs : PairSet
    direction : "S2I" for sound to image, "I2S" for image to sound.
    settings : Settings

    Raises
    ------
    FloatingPointError
        If a loss is not finite.

    Notes
    -----
    As in the public code the encoder is trained as a classifier and then stays as it is. Its codes
    of the training pictures are therefore computed once, in evaluation mode. Mismatched pairs are
    the step's real pictures with codes of another class: the discriminator's tower sees each
    picture once.

    References
    ----------
    tan2020spectrogram
    """
    hardware.keep_freed_memory()
    trained = build(pairs, direction, settings)
    inputs, outputs = (side["train"] for side in pairs.sides(direction))
    trained.encoder_history = fit_encoder(trained.encoder, inputs, settings)
    trained.history = _Game(trained, inputs, outputs).play()
    trained.generator.eval()
    trained.discriminator.eval()
    return trained


def fit_encoder(encoder: Encoder, pictures: Pictures, settings: Settings) -> pd.DataFrame:
    """Train an encoder as a classifier, leave it in evaluation mode, and return its history."""
    device = next(encoder.parameters()).device
    optimizer = torch.optim.Adam(encoder.parameters(), settings.learning_rate, settings.betas)
    n_steps, peak = settings.classifier_steps, settings.one_cycle
    schedule = None
    if peak:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=n_steps)
    log = Log(settings.log_every)
    encoder.train()
    drawn = batches(len(pictures), settings.batch, n_steps, [settings.seed, 1])
    for step, (rng, rows) in _bar(enumerate(drawn, 1), n_steps, "encoder"):
        unit, labels = pictures.unit(rows).to(device), pictures.labels[rows].to(device)
        if settings.augmentation:
            unit = distort(unit, settings.augmentation, rng)
        with _precision(settings, device):
            logits = encoder.logits(unit).float()
        loss = nn.functional.cross_entropy(logits, labels)
        _follow(optimizer, loss, f"step {step} of the encoder")
        if schedule:
            schedule.step()
        log.add(step, loss=loss, accuracy=(logits.argmax(1) == labels).float().mean())
    encoder.eval()
    return log.table()


@torch.no_grad()
def encode(encoder: Encoder, pictures: Pictures, batch: int = 256) -> torch.Tensor:
    """Return the codes of all pictures, (pictures, 64), on the encoder's device."""
    device = next(encoder.parameters()).device
    rows = np.arange(len(pictures))
    parts = np.split(rows, range(batch, len(rows), batch))
    return torch.cat([encoder(pictures.unit(part).to(device)) for part in parts])


def encode_views(encoder: Encoder, pictures: Pictures, settings: Settings) -> torch.Tensor:
    """Return codes, (views, pictures, 64): of the pictures, then of changed ones."""
    codes, strength = [encode(encoder, pictures)], settings.augmentation
    rng = np.random.default_rng([settings.seed, 4])
    parts = np.array_split(np.arange(len(pictures)), -(-len(pictures) // 256))
    for _ in range(settings.code_views - 1):
        changed = [from_levels(distort(pictures.unit(part), strength, rng)) for part in parts]
        codes.append(encode(encoder, replace(pictures, pixels=torch.cat(changed))))
    return torch.stack(codes)


class _Game:
    """Generator against discriminator, codes given."""

    def __init__(self, trained: Trained, inputs: Pictures, outputs: Pictures):
        self.settings = settings = trained.settings
        self.generator, self.discriminator = trained.generator, trained.discriminator
        self.outputs = outputs
        self.codes = encode_views(trained.encoder, inputs, settings)
        self.device = self.codes.device
        self.labels, self.other_labels = inputs.labels.numpy(), outputs.labels.numpy()
        self.g_optimizer = torch.optim.Adam(
            self.generator.parameters(), settings.generator_rate, settings.betas
        )
        self.d_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), settings.learning_rate, settings.betas
        )
        self.chance = torch.Generator(self.device).manual_seed(settings.seed)

    def play(self) -> pd.DataFrame:
        """Do all steps and return the history."""
        settings, log = self.settings, Log(self.settings.log_every)
        self.generator.train()
        self.discriminator.train()
        drawn = batches(len(self.labels), settings.batch, settings.steps, [settings.seed, 2])
        for step, (rng, rows) in _bar(enumerate(drawn, 1), settings.steps, "generator"):
            values = {}
            if (step - 1) % settings.critic_every == 0:
                values |= self.train_discriminator(step, rows, rng)
            values |= self.train_generator(step, rows, rng)
            log.add(step, **values)
        return log.table()

    def draw_codes(self, rows: np.ndarray, rng) -> torch.Tensor:
        """Return one of the codes of each row."""
        n = len(self.codes)
        return self.codes[rng.integers(0, n, len(rows)) if n > 1 else 0, rows]

    def noise(self, n: int) -> torch.Tensor:
        return torch.randn(n, N_NOISE, generator=self.chance, device=self.device)

    def train_discriminator(self, step: int, rows: np.ndarray, rng) -> dict[str, torch.Tensor]:
        """Follow the discriminator's gradient once and return its loss and scores."""
        partners, _ = draw_partners(self.labels[rows], self.other_labels, rng)
        _, wrong = draw_partners(self.labels[rows], self.labels, rng)
        codes, wrong_codes = self.draw_codes(rows, rng), self.draw_codes(wrong, rng)
        real = self.outputs.unit(partners).to(self.device)
        with _precision(self.settings, self.device):
            with torch.no_grad():
                fake = self.generator(codes, self.noise(len(rows)))
            real_maps, fake_maps = self.discriminator.tower(torch.cat([real, fake])).chunk(2)
            scores = self.discriminator.score(
                torch.cat([codes, codes, wrong_codes]), torch.cat([real_maps, fake_maps, real_maps])
            ).float()
        real, fake, mismatched = scores.chunk(3)
        loss = discriminator_loss(real, fake, mismatched)
        _follow(self.d_optimizer, loss, f"step {step} of the discriminator")
        means = {"real": real.mean(), "fake": fake.mean(), "mismatched": mismatched.mean()}
        return {"discriminator_loss": loss, **means}

    def train_generator(self, step: int, rows: np.ndarray, rng) -> dict[str, torch.Tensor]:
        """Follow the generator's gradient once and return its loss."""
        codes = self.draw_codes(rows, rng)
        self.discriminator.requires_grad_(False)
        with _precision(self.settings, self.device):
            fake = self.generator(codes, self.noise(len(rows)))
            loss = generator_loss(self.discriminator(codes, fake).float())
        _follow(self.g_optimizer, loss, f"step {step} of the generator")
        self.discriminator.requires_grad_(True)
        return {"generator_loss": loss}


def _follow(optimizer: torch.optim.Optimizer, loss: torch.Tensor, where: str) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"fit: the loss of {where} is {loss.item()}; lower the learning rates or set "
            "mixed_precision=False."
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _precision(settings: Settings, device: torch.device):
    return hardware.autocast(device) if settings.mixed_precision else contextlib.nullcontext()


def _bar(steps: Iterator, total: int, name: str) -> tqdm:
    return tqdm(steps, total=total, desc=f"training the {name}", unit="step", leave=False)
