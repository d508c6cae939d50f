"""SA-CMGAN trained: first the encoder as a classifier, then generator against discriminator."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.optim import Adam

from esc_lib.companions.crossmodal.distort import distort
from esc_lib.companions.crossmodal.networks import N_NOISE, Discriminator, Encoder, Generator
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures, draw_partners, from_levels
from esc_lib.companions.crossmodal.settings import Settings
from esc_lib.companions.crossmodal.steps import Chance, Steps, descend, teach
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_device
from esc_lib.machine.reading import refuse

NETWORKS = ("encoder", "generator", "discriminator")
HISTORIES = ("encoder_history", "history")
BETAS = (0.5, 0.999)  # of Adam, as published
AT_ONCE = 256  # pictures, where nothing is learned


@dataclass
class Trained:
    """Networks after training, in evaluation mode, and how training went."""

    settings: Settings
    encoder: Encoder
    generator: Generator
    discriminator: Discriminator
    # step, seconds, loss and accuracy: means since the last row
    encoder_history: pd.DataFrame = field(default_factory=pd.DataFrame)
    # step, seconds, discriminator_loss, generator_loss, mean scores: real, fake and mismatched
    history: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def networks(self) -> nn.ModuleDict:
        """Return the three networks by name."""
        return nn.ModuleDict({name: getattr(self, name) for name in NETWORKS})


def build(pairs: PairSet, settings: Settings) -> Trained:
    """Return fresh networks; the same seed gives the same weights."""
    inputs, outputs = (side["train"].pixels.shape[1] for side in pairs.sides(settings.direction))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(len(pairs.class_names), inputs, settings)
        networks = encoder, Generator(outputs, settings), Discriminator(outputs, settings)
    for network in networks:
        network.to(best_device(), memory_format=torch.channels_last)
    return Trained(settings, *networks)


def fit(pairs: PairSet, settings: Settings, folder: Path | None = None) -> Trained:
    """Train both stages on the training part, or go on where an earlier call was stopped.

    States are kept in `folder`, one file per stage; None saves nothing. A loss that is not finite
    raises FloatingPointError.

    As in the public code the encoder is trained as a classifier and then stays as it is. Its codes
    of the training pictures are therefore computed once, in evaluation mode. Mismatched pairs are
    the step's real pictures with codes of another class: the discriminator's tower sees each
    picture once.
    """
    trained = build(pairs, settings)
    inputs, outputs = (side["train"] for side in pairs.sides(settings.direction))
    paths = [folder and folder / f"{stage}.pt" for stage in ("encoder", "generator")]
    trained.encoder_history = fit_encoder(trained.encoder, inputs, settings, paths[0])
    trained.history = Game(trained, inputs, outputs).play(paths[1])
    return trained


def fit_encoder(
    encoder: Encoder, pictures: Pictures, settings: Settings, path: Path | None = None
) -> pd.DataFrame:
    """Train an encoder as a classifier, leave it in evaluation mode, and return its history."""
    chance = Chance(len(pictures), settings.batch, [settings.seed, 1])
    return teach(
        encoder, encoder.logits, pictures,
        lambda unit, rng: distort(unit, settings.augmentation, rng), chance,
        settings.classifier_steps, settings.log_every, settings.encoder_rate, path=path,
    )  # fmt: skip


@torch.no_grad()
def encode(encoder: Encoder, pictures: Pictures) -> Tensor:
    """Return the codes of all pictures, (pictures, 64), on the encoder's device."""
    parts = torch.arange(len(pictures)).split(AT_ONCE)
    return torch.cat([encoder(pictures.unit(part).to(best_device())) for part in parts])


def encode_views(encoder: Encoder, pictures: Pictures, settings: Settings) -> Tensor:
    """Return codes, (views, pictures, 64): of the pictures, then of changed ones."""
    codes, strength = [encode(encoder, pictures)], settings.augmentation
    rng = np.random.default_rng([settings.seed, 4])
    parts = np.array_split(np.arange(len(pictures)), -(-len(pictures) // AT_ONCE))
    for _ in range(settings.code_views - 1):
        changed = [from_levels(distort(pictures.unit(part), strength, rng)) for part in parts]
        codes.append(encode(encoder, replace(pictures, pixels=torch.cat(changed))))
    return torch.stack(codes)


class Game:
    """Generator against discriminator, codes given."""

    def __init__(self, trained: Trained, inputs: Pictures, outputs: Pictures):
        self.settings, self.outputs = trained.settings, outputs
        self.generator, self.discriminator = trained.generator, trained.discriminator
        settings = trained.settings
        self.codes = encode_views(trained.encoder, inputs, settings)
        self.labels, self.other_labels = inputs.labels.numpy(), outputs.labels.numpy()
        self.g_optimizer = Adam(self.generator.parameters(), settings.generator_rate, BETAS)
        self.d_optimizer = Adam(self.discriminator.parameters(), settings.learning_rate, BETAS)
        self.chance = Chance(len(inputs), settings.batch, [settings.seed, 2])

    def play(self, path: Path | None = None) -> pd.DataFrame:
        """Do the steps that are not done yet, with the state in `path`, and return the history."""
        names = ("generator", "discriminator", "g_optimizer", "d_optimizer", "chance")
        own = {name: getattr(self, name) for name in names}
        total, every = self.settings.steps, self.settings.log_every
        return Steps("generator", self.follow, total, every, **own).run(path)

    def follow(self, step: int) -> dict[str, Tensor]:
        """Train the discriminator, unless it rests, and the generator."""
        rows, values = self.chance.rows(step), {}
        if step % self.settings.critic_every == 0:
            values = self.train_discriminator(rows)
        return values | self.train_generator(rows)

    def draw_codes(self, rows: np.ndarray) -> Tensor:
        """Return one of the codes of each row."""
        n = len(self.codes)
        return self.codes[self.chance.rng.integers(0, n, len(rows)) if n > 1 else 0, rows]

    def generate(self, codes: Tensor) -> Tensor:
        """Return a picture for each code, with fresh noise."""
        size, device = (len(codes), N_NOISE), codes.device
        return self.generator(codes, torch.randn(size, generator=self.chance.noise, device=device))

    def train_discriminator(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Follow the discriminator's gradient once and return its loss and scores."""
        rng = self.chance.rng
        partners, _ = draw_partners(self.labels[rows], self.other_labels, rng)
        _, wrong = draw_partners(self.labels[rows], self.labels, rng)
        codes, wrong_codes = self.draw_codes(rows), self.draw_codes(wrong)
        real = self.outputs.unit(partners).to(codes.device)
        with torch.no_grad():
            fake = self.generate(codes)
        real_maps, fake_maps = self.discriminator.tower(torch.cat([real, fake])).chunk(2)
        maps = torch.cat([real_maps, fake_maps, real_maps])
        scores = self.discriminator.score(torch.cat([codes, codes, wrong_codes]), maps)
        real, fake, mismatched = scores.chunk(3)
        loss = discriminator_loss(real, fake, mismatched)
        descend(self.d_optimizer, loss)
        means = {"real": real.mean(), "fake": fake.mean(), "mismatched": mismatched.mean()}
        return {"discriminator_loss": loss, **means}

    def train_generator(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Follow the generator's gradient once and return its loss."""
        codes = self.draw_codes(rows)
        self.discriminator.requires_grad_(False)
        loss = generator_loss(self.discriminator(codes, self.generate(codes)))
        descend(self.g_optimizer, loss)
        self.discriminator.requires_grad_(True)
        return {"generator_loss": loss}


def discriminator_loss(real: Tensor, fake: Tensor, mismatched: Tensor) -> Tensor:
    """Return the hinge loss of scores, (batch,), of pictures held against a code.

    They are real ones that go with it, generated ones, and real ones of another class:
    ``E[max(0, 1 - real)] + (E[max(0, 1 + fake)] + E[max(0, 1 + mismatched)]) / 2``

    References
    ----------
    tan2020spectrogram; lim2017geometric
    """
    return relu(1 - real).mean() + (relu(1 + fake).mean() + relu(1 + mismatched).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """Return minus the mean score of generated pictures, shape (batch,)."""
    return -fake.mean()


def save(path: Path, trained: Trained) -> None:
    """Write the three networks, their settings and histories."""
    tensors = {k: v.contiguous() for k, v in trained.networks.state_dict().items()}
    histories = {name: getattr(trained, name).to_dict("list") for name in HISTORIES}
    found = {"settings": asdict(trained.settings), "histories": histories}
    metadata = {name: json.dumps(value) for name, value in found.items()}
    write_atomically(path, lambda p: save_file(tensors, p, metadata=metadata))


def load(path: Path, pairs: PairSet) -> Trained:
    """Open networks written by :func:`save`, in evaluation mode.

    A file that is damaged, or of pairs with other classes or channels, raises ValueError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
        # JSON has lists for tuples
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in found["settings"].items()}
        trained = build(pairs, Settings(**settings))
        trained.networks.eval().load_state_dict(load_file(path))
        for name in HISTORIES:
            setattr(trained, name, pd.DataFrame(found["histories"][name]))
    except (SafetensorError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as e:
        refuse(path, f"is damaged or of other pairs ({e})")
    return trained
