"""Frozen against full: ways to use an encoder that was taught without labels, over test folds."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.transformer.attention import measure_clips
from esc_lib.companions.transformer.freezing import embeddings, linear_probe
from esc_lib.companions.transformer.network import FROZEN, FULL, SpectrogramAST, freeze, small_ast
from esc_lib.companions.transformer.pretraining import Pretrained, pretrain
from esc_lib.companions.transformer.settings import Settings
from esc_lib.config import RECIPES, Profile, Stage
from esc_lib.data.clips import Data
from esc_lib.data.splits import Split
from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import classifier, prediction, runs

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # of the probe; the best on validation clips is taken
BATCH = 64  # clips that are cut at a time


@dataclass(frozen=True)
class Way:
    """A way to make a classifier of an encoder."""

    name: str  # in tables
    level: str  # what learns, as for ``network.freeze``; "" fits a linear probe
    taught: bool = True  # without labels before; else the encoder is fresh


SCRATCH = Way("from scratch", FULL, False)
LEVELS = (Way("full", FULL), Way("last two layers", "last2"), Way("frozen", FROZEN))
PROBE, PROBE_FRESH = Way("linear probe", ""), Way("linear probe, fresh encoder", "", False)
WAYS = (SCRATCH, *LEVELS, PROBE, PROBE_FRESH)


@dataclass(frozen=True)
class Study:
    """Clips, the profile that says how they are split and heard, and how networks are taught."""

    data: Data
    profile: Profile
    settings: Settings

    def training_of(self, fold: int, level: str = FULL) -> Profile:
        """Return how labels are taught: by the strong recipe, on excerpts of one length."""
        own = self.settings
        recipe = replace(
            RECIPES["strong"],
            name="transformer",
            learning_rate=own.classifier_rate if level == FROZEN else own.learning_rate,
            ema_decay=0.0,  # there are too few steps for a running mean
            stages=(Stage(1.0, own.n_frames),),
            test_crops=own.views,
        )
        changes = {"test_fold": fold, "epochs": own.epochs, "recipe": recipe}
        return runs.variant(self.profile, architecture=f"transformer-{level}", **changes)

    def of_fold(self, fold: int) -> Data:
        """Return the clips with the split of a test fold."""
        return runs.split_for(self.data, self.training_of(fold))

    def excerpts(self, rows: np.ndarray, n: int = 1, *, db: bool = False) -> torch.Tensor:
        """Cut `n` evenly spaced excerpts out of the sounding part of clips; one from the middle.

        It returns (clips, n, 1, mel, frames), in dB or with mean 0 and deviation 1.
        """
        made = LogMel(self.profile.front_end).of_frames(self.settings.n_frames)
        n_samples = made.settings.n_samples
        places = torch.linspace(0, 1, n) if n > 1 else torch.tensor([0.5])
        found = []
        for part in np.array_split(rows, -(-len(rows) // BATCH)):
            waveforms, _ = self.data.batch(part)
            spans = sounding_span(self.data.waveforms[part])
            views = []
            for place in places:
                starts = augment.crop_starts(spans, n_samples, place)
                cut = augment.crop(waveforms, starts, n_samples)
                whole = torch.full_like(starts, n_samples)
                views.append(made(cut)[:, None] if db else made.features(cut, whole))
            found.append(torch.stack(views, dim=1))
        return torch.cat(found)

    def fresh(self) -> SpectrogramAST:
        """Return the small network before it learned anything."""
        torch.manual_seed(self.profile.training.seed)
        n_mels = self.profile.front_end.n_mels
        network = small_ast(len(self.data.class_names), n_mels, self.settings.n_frames)
        return network.to(memory_format=torch.channels_last)  # as initial_model lays out others

    def teach(self, fold: int, folder: Path) -> Pretrained:
        """Teach the small network without labels, on the training clips of a fold only.

        Validation clips are measured; test clips are not touched. It goes on from the folder.
        """
        split = self.of_fold(fold).split
        views = self.excerpts(split.train, self.settings.views).flatten(0, 1)
        validation = self.excerpts(split.validation)[:, 0]
        seed = self.profile.training.seed
        return pretrain(self.fresh(), views, validation, self.settings, seed, folder)

    def use(
        self, way: Way, fold: int, start: SpectrogramAST, folder: Path
    ) -> tuple[SpectrogramAST, pd.DataFrame]:
        """Make a classifier of an encoder in one way, and judge it on validation and test clips.

        `start` is fresh or was taught; what the folder holds already is not done again.

        Returns
        -------
        network : what came out; for a probe, `start` itself.
        judged : DataFrame, a row per validation and test clip: way, fold, part, filename, src_file,
            right, seconds (of the training, the same in all rows).
        """
        data, training = self.of_fold(fold), self.training_of(fold, way.level or FROZEN)
        folder = folder / f"{way.name.replace(', ', '-').replace(' ', '_')}-fold{fold}"
        network, seconds = start, 0.0
        if way.level:
            learning = freeze(copy.deepcopy(start), way.level)
            fit = classifier.fit(data, training, folder, start=learning)
            network, seconds = fit.model, float(fit.history.seconds.sum())
        rows = np.concatenate([data.split.validation, data.split.test])

        def judge() -> dict:
            if way.level:
                decided = self._decided(network, rows)
            else:
                decided = self._probed(network, data.split, rows)
            return {"right": (decided == data.labels.numpy()[rows]).tolist()}

        identity = fingerprint(
            classifier.run_identity(data, training, start=start), way.level, code=__file__
        )
        right = made_once(folder / "judged.pt", identity, judge)["right"]
        judged = data.clips.loc[rows, ["part", "filename", "src_file"]].reset_index(drop=True)
        return network, judged.assign(right=right, way=way.name, fold=fold, seconds=seconds)

    def _decided(self, network: SpectrogramAST, rows: np.ndarray) -> np.ndarray:
        """Return the class that the network finds most probable, on average over excerpts."""
        device = best_device()
        front_end = LogMel(self.profile.front_end).to(device)
        views = self.settings.n_frames, self.settings.views
        with autocast(device):
            logits = prediction.predict(network.to(device), front_end, self.data, rows, *views)
        return logits.argmax(1).numpy()

    def _probed(self, network: SpectrogramAST, split: Split, rows: np.ndarray) -> np.ndarray:
        """Return what a probe on the mean over excerpts decides, its strength by validation."""
        network, n = network.to(best_device()), self.settings.views

        def embedded(chosen: np.ndarray) -> np.ndarray:
            flat = embeddings(network, self.excerpts(chosen, n).flatten(0, 1))
            return flat.reshape(len(chosen), n, -1).mean(axis=1)

        labels = self.data.labels.numpy()
        learned, validated = embedded(split.train), embedded(split.validation)
        probes = [linear_probe(learned, labels[split.train], strength) for strength in STRENGTHS]
        best = max(probes, key=lambda probe: probe.score(validated, labels[split.validation]))
        return best.predict(embedded(rows))

    def look(self, networks: dict[str, SpectrogramAST], rows: np.ndarray) -> pd.DataFrame:
        """Measure where every head of some networks looks in the middle excerpts of clips.

        The table is like that of ``attention.measure``, with network and src_file.
        """
        views = self.excerpts(rows)[:, 0]
        sources = self.data.clips.src_file.to_numpy()[rows]
        tables = []
        for name, network in networks.items():
            table = measure_clips(network, views, self.profile.front_end)
            tables.append(table.assign(network=name, src_file=sources[table["clip"]]))
        return pd.concat(tables, ignore_index=True)


# ----------------------------------------------------------------------------------- judgement


def accuracy_table(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the accuracy of every way in percent, over all folds, a row per way.

    Columns are accuracy, low, high (95 % over source recordings), clips and minutes, the latter of
    training with labels, all folds together.
    """
    rows = {}
    for way, table in judged[judged.part == part].groupby("way", sort=False):
        minutes = table.groupby("fold").seconds.first().sum() / 60
        row = _percent("accuracy", table.right.astype(float), table.src_file)
        rows[way] = row | {"clips": len(table), "minutes": minutes}
    return pd.DataFrame.from_dict(rows, orient="index")


def differences(judged: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Return by how many points the first way of each pair beats the second, on the test clips.

    Columns are difference, low, high (95 % over source recordings); the index is
    "<first> - <second>". Chance in the training is not in the interval: each way was trained once
    per fold.
    """
    table = judged[judged.part == "test"].set_index(["fold", "filename"])
    rows = {}
    for first, second in pairs:
        one, other = (table[table.way == name] for name in (first, second))
        gain = one.right.astype(float) - other.right.reindex(one.index).astype(float)
        rows[f"{first} - {second}"] = _percent("difference", gain, one.src_file)
    return pd.DataFrame.from_dict(rows, orient="index")


def _percent(name: str, values: pd.Series, sources: pd.Series) -> dict[str, float]:
    """Return a mean in percent under its name, and the ends of its interval: low, high."""
    found = mean_interval(100 * values.to_numpy(), source_draws(sources.to_numpy()))
    return dict(zip((name, "low", "high"), found))
