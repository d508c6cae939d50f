"""Portraits: chosen on training clips of the class, applied without a gradient, and controls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from two_bands import FRONT_END, HIGH, LOW, small_data

from esc_lib.data.splits import Split
from esc_lib.explain import gallery, portraits
from esc_lib.explain.components import Components
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import by_energy
from esc_lib.sound.log_mel import LogMel

LAYER = "conv_block4"


class Bands(nn.Module):
    """Two classes by the louder of two bands; its hidden layer holds four groups of bands."""

    def __init__(self):
        super().__init__()
        self.conv_block4 = nn.Identity()

    def forward(self, features):
        groups = features[:, 0].unflatten(1, (4, 8)).amax(dim=2)  # (batch, 4, frames)
        maps = self.conv_block4((groups + 3).relu()[:, :, None])
        levels = maps[:, :, 0].mean(dim=2)
        score = 4 * (levels[:, 3] - levels[:, 0])
        return torch.stack([score, -score], dim=1)  # class 0 is "high"


@pytest.fixture(scope="module")
def data():
    rows = np.arange(40)
    return small_data().with_split(Split(rows[:24], rows[24:28], rows[28:]))


@pytest.fixture(scope="module")
def explainer(data):
    w = torch.zeros(FRONT_END.n_mels, 4)
    for group in range(4):
        w[8 * group : 8 * group + 8, group] = 1
    fitted = {(LAYER, "known"): Components(LAYER, w, torch.ones(4))}
    inputs = take(data, data.split.test, "clean", FRONT_END.sr)
    return Explainer(Bands().eval(), LogMel(FRONT_END), fitted, inputs)


@pytest.fixture(scope="module")
def drawn(explainer, data):
    return portraits.draw(explainer, data, explainer.fitted[LAYER, "known"])


def test_a_class_is_known_by_the_atom_that_decides_for_it(drawn):
    assert drawn.atoms[:, 0].tolist() == [3, 0]
    assert drawn.atoms.shape == (2, 4)  # as many as there are, each once
    assert all(sorted(row) == [0, 1, 2, 3] for row in drawn.atoms.tolist())


def test_portraits_come_from_training_clips_alone(explainer, data, drawn):
    heard = data.waveforms.clone()
    heard[data.split.test] = 0
    again = portraits.draw(explainer, replace(data, waveforms=heard), drawn.fitted)
    assert torch.equal(again.atoms, drawn.atoms)
    assert torch.equal(again.spectra, drawn.spectra)
    for label, bands in enumerate((HIGH, LOW)):  # names are in alphabetical order
        assert bands.start <= int(drawn.spectra[label].argmax()) < bands.stop


def test_no_gradient_is_asked_for_on_new_clips(explainer, drawn, monkeypatch):
    monkeypatch.setattr(torch.autograd, "grad", lambda *_: pytest.fail("a gradient was asked for"))
    fresh = replace(explainer, classes=torch.zeros(12, dtype=torch.long))
    found = portraits.heats(fresh, drawn, torch.zeros(12, dtype=torch.long), 1)
    assert set(found) == {
        portraits.OURS, "random atoms", "H = 1", "H permuted", "mean spectrum", "mean gradient"
    }  # fmt: skip
    ours = found[portraits.OURS]
    assert (ours[:, 24:] > 0.99).all() and (ours[:, :24] < 0.01).all()  # class 0 is "high"


def test_every_method_keeps_the_same_energy(explainer, drawn):
    power = explainer.front_end.mel_power(explainer.inputs.waveforms)
    classes = torch.zeros(12, dtype=torch.long)
    for name, heat in portraits.heats(explainer, drawn, classes, 2).items():
        (mask,) = by_energy(explainer, heat, [portraits.ENERGY])
        held = (power * mask).sum(dim=(1, 2)) / power.sum(dim=(1, 2))
        assert (held <= portraits.ENERGY + 1e-5).all() and (held > 0.05).all(), name


def test_a_portrait_keeps_its_class_and_a_wrong_one_is_found_out(explainer, data, drawn):
    found = portraits.judge_portraits(explainer, drawn, data.labels[data.split.test].numpy())
    assert sorted(found[found.method == portraits.OURS].n.unique()) == list(portraits.SIZES)
    assert set(found[found.method == "mean gradient"].n) == {0}
    means = found[found.n <= 1].groupby("method")[["kept", "stays", "turned"]].mean()
    assert means.stays[portraits.OURS] == 1
    assert means.kept[portraits.OURS] > means.kept["random atoms"]
    assert (found.groupby(["method", "n"]).size() == 12).all()


def test_second_judges_hear_what_is_kept(explainer, data, drawn):
    asked = replace(explainer, judges={"same": lambda sounds, n: explainer.probabilities(sounds)})
    labels = data.labels[data.split.test].numpy()
    found = portraits.judge_portraits(asked, drawn, labels)
    np.testing.assert_allclose(found["gain same"], found.kept, atol=1e-4)


# ----------------------------------------------------------------------------- what is said of them


def judged(better=0.0, n=40):
    """Return judged portraits that keep more decisions than their controls by a share of clips."""
    rng, rows = np.random.default_rng(0), []
    for size in portraits.SIZES:
        for method in (portraits.OURS, "random atoms", "H = 1", "H permuted"):
            share = 0.4 + better * (method == portraits.OURS)
            rows.append(pd.DataFrame({
                "method": method, "n": size, "row": np.arange(n), "stays": np.arange(n) < share * n,
                "turned": False, "kept": rng.normal(size=n), "gain_wrong": 0.0, "gain forest": 0.1,
                "source": np.arange(n) // 2, "label": 0, "fold": 1,
            }))  # fmt: skip
    static = rows[1].assign(method="mean gradient", n=0)
    return pd.concat([*rows, static], ignore_index=True)


@pytest.mark.parametrize(("better", "words"), [
    (0.5, "ahead of every control"), (0.0, "ahead of no control"), (-0.2, "ahead of no control"),
])  # fmt: skip
def test_what_is_said_of_portraits_follows_the_intervals(better, words):
    said = gallery.sentence(judged(better))
    assert said.endswith(words), said
    assert f"in {40 + 100 * better:.0f} % of test clips" in said


def test_a_control_that_is_not_beaten_is_named():
    rows = judged(0.5)
    rows.loc[rows.method == "H permuted", "stays"] = True
    said = gallery.sentence(rows)
    assert said.endswith("ahead of H = 1, mean gradient, random atoms alone"), said


def test_portraits_are_compared_clip_by_clip():
    rows = judged(0.3)
    table, gaps = gallery.compare(rows), gallery.ahead(rows, "stays", 5)
    assert table.loc[(portraits.OURS, 5), ("stays", "mean")] == pytest.approx(70)
    assert set(gaps.index) == {"random atoms", "H = 1", "H permuted", "mean gradient"}
    for _, gap in gaps.iterrows():
        assert gap["mean"] == pytest.approx(0.3) and 0 < gap.low < 0.3 < gap.high


def test_tables_of_networks_are_collected_and_recorded_ones_go_before(tmp_path):
    own, recorded = tmp_path / "own", tmp_path / "recorded"
    for folder, share in ((own, 0.0), (recorded / "portraits", 0.5)):
        folder.mkdir(parents=True)
        judged(share).to_csv(folder / "net-fold1-seed0.csv.gz", index=False)
    judged(0.1).to_csv(own / "net-fold2-seed0.csv.gz", index=False)
    found = gallery.collect(own, recorded)
    assert set(found.network) == {"net-seed0"} and len(found) == 2 * len(judged())
    shares = found[found.method == portraits.OURS].stays.mean()
    assert shares == pytest.approx((0.9 + 0.5) / 2)
    assert gallery.collect(own).query("method == 'portrait'").stays.mean() == pytest.approx(0.45)
