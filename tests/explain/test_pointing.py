"""Do maps point to a known reason: hits, ranks, and what is said of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from two_bands import FRONT_END, N_SAMPLES, small_data

from esc_lib.config import PROFILES
from esc_lib.data.splits import Split
from esc_lib.explain import heatmaps, planted, pointing

PROFILE = replace(PROFILES["demo"], front_end=FRONT_END)
PLACE = slice(3, 6), slice(10, 14)


class Detector(nn.Module):
    """Says class 1 where one band is loud for a moment, class 0 otherwise."""

    def __init__(self, band):
        super().__init__()
        self.band, self.bias = band, nn.Parameter(torch.tensor(0.0))

    def forward(self, features):
        band = features[:, 0, self.band]
        loud = band.amax(dim=1) - band.mean(dim=1)
        return torch.stack([1.5 + self.bias.expand_as(loud), loud], dim=1)


def test_a_hit_is_the_share_of_the_highest_points_that_is_there():
    heat = torch.zeros(32, 70)
    heat[4, 11] = heat[20, 50] = heat[20, 51] = 1
    assert pointing.hit(heat, PLACE) == pytest.approx(1 / 3)
    heat[4, 11] = 2
    assert pointing.hit(heat, PLACE) == 1
    flat = torch.ones(32, 70)
    assert pointing.hit(flat, PLACE) == pytest.approx(3 * 4 / (32 * 70))


def test_the_rank_of_a_place_is_that_of_a_plain_count():
    heat = torch.randint(0, 9, (32, 70), generator=torch.Generator().manual_seed(0)).float()
    points = heat.flatten().numpy()
    at = heat[PLACE].flatten().numpy()
    counted = [(points < one).mean() + (points == one).mean() / 2 for one in at]
    assert pointing.above(heat, PLACE) == pytest.approx(np.mean(counted), abs=1e-6)
    assert pointing.above(torch.zeros(32, 70), PLACE) == pytest.approx(0.5)


def test_maps_of_a_network_that_goes_by_the_cue_point_to_it_and_others_do_not(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(planted, "CUE_HZ", 1500.0)
    monkeypatch.setattr(planted, "DECOY_HZ", 800.0)
    monkeypatch.setattr(pointing, "fit", lambda *_: {})
    shuffled = torch.Generator().manual_seed(0)
    monkeypatch.setattr(pointing, "maps", lambda: {
        "saliency": lambda e: heatmaps.saliency(e.model, e.features, e.targets),
        "random": lambda e: torch.rand(e.features[:, 0].shape, generator=shuffled),
    })  # fmt: skip
    data = small_data(80)
    data = data.with_split(Split(np.arange(8), np.arange(8, 40), np.arange(40, 80)))
    both = planted.Planted.draw(data, FRONT_END.sr, label=1)
    front_end = pointing.LogMel(FRONT_END)
    bands, decoy = (tone.place(front_end, 0)[0].start + 1 for tone in (both.cue, both.decoy))
    networks = {pointing.TAUGHT: Detector(bands), pointing.USUAL: Detector(decoy)}
    clips, hits = pointing.judged(data, PROFILE, networks, both, tmp_path)
    assert set(clips.part) == {"validation", "test"} and clips.turned.mean() > 0.9
    of_rows = dict(zip(data.clips.filename, data.labels.tolist(), strict=True))
    assert not any(of_rows[name] for name in clips.filename)  # clips of other classes
    assert len(hits) == 2 * 2 * clips.turned.sum()
    found = pointing.summary(hits).value
    assert found["saliency", pointing.TAUGHT, "cue"] == 100
    assert found["saliency", pointing.TAUGHT, "decoy"] == 0
    assert found["saliency", pointing.USUAL, "cue"] == 0
    assert found["saliency", pointing.USUAL, "decoy"] == 100
    assert found["random", pointing.TAUGHT, "cue"] < 20
    assert found["random", pointing.TAUGHT, "above"] == pytest.approx(50, abs=5)
    assert pointing.chosen(hits) == "saliency"


def table(method, cue, part="test", network=pointing.TAUGHT):
    n = len(cue)
    return pd.DataFrame(
        {"row": range(n), "method": method, "cue": cue, "decoy": 0.0, "above": 0.5, "part": part,
         "network": network, "src_file": range(n)}
    )  # fmt: skip


def test_the_method_is_chosen_on_validation_clips_and_quoted_on_test_clips():
    hits = pd.concat([
        table("components", [0.0] * 9, "validation"), table("components", [1.0] * 9),
        table("Grad-CAM", [1.0] * 9, "validation"), table("Grad-CAM", [0.0] * 9),
        table(pointing.EQUALISER, [0.0] * 9),
    ])  # fmt: skip
    clips = pd.DataFrame({"part": "test", "src_file": range(10), "turned": [True] * 9 + [False]})
    says = pointing.sentence(clips, hits)
    assert pointing.chosen(hits) == "Grad-CAM"
    assert "turns 90 % of 10 test clips" in says and "of Grad-CAM, chosen on validation" in says
    assert "lies on it in 0 % (0 to" in says and "components in 100 %" in says
    clips.loc[:2, "turned"] = False
    assert pointing.sentence(clips, hits).endswith("no test")


def test_a_recorded_study_goes_before(monkeypatch, tmp_path):
    monkeypatch.setattr(pointing, "examine", lambda *_: ("made", "here"))
    arguments = None, PROFILE, tmp_path, tmp_path
    assert pointing.collect(*arguments, recorded=tmp_path) == ("made", "here")
    folder = tmp_path / "planted" / pointing.experiments.name_of(PROFILE)
    folder.mkdir(parents=True)
    for (file, options), frame in zip(pointing.FILES.items(), (table("a", [1]), table("b", [0]))):
        frame.to_csv(folder / file, index=False, **options)
    clips, hits = pointing.collect(*arguments, recorded=tmp_path)
    assert (clips.method[0], hits.method[0]) == ("a", "b")
    assert N_SAMPLES and pointing.narrow(PROFILES["esc10"]).network == pointing.NARROW
    assert pointing.narrow(PROFILE) is PROFILE
