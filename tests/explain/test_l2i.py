"""L2I: its loss by hand, its dictionary, its relevance, and a task whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, HIGH, LOW, LouderTone, two_tones

from esc_lib.explain import l2i
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import judge
from esc_lib.explain.scores import CRITERION
from esc_lib.layers.hooks import mel_magnitude
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import loop

SETTINGS = l2i.Settings(
    layers=("halves", "votes"), atoms=6, gain=10.0, width=16, steps=150, learning_rate=0.01
)


def test_the_loss_of_a_sound_by_hand():
    v, w = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]), torch.tensor([[1.0], [0.5]])
    h = torch.tensor([[[1.0, 2.0]]])  # W H: [[1, 2], [0.5, 1]]
    settings = replace(SETTINGS, reconstruction=3.0, activity=2.0)
    found = l2i.objective(
        v, w, h, torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0]]), settings
    )
    p, q = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))  # of class 0: the network's, the reader's
    fidelity = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    np.testing.assert_allclose(found, fidelity + 3 * 0.25 / 4 + 2 * 1.5, rtol=1e-6)


def test_an_atom_counts_with_what_it_adds_to_the_class():
    pooled, weights = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[9.0, 9, 9], [2.0, -4, 1]])
    found = l2i.relevance(pooled, weights, torch.tensor([1]))
    torch.testing.assert_close(found, torch.tensor([[2.0, -8.0, 3.0]]) / 8)
    assert not l2i.relevance(0 * pooled, weights, torch.tensor([1])).any()


def test_spectra_are_logarithms_of_the_magnitude():
    front_end, data = LogMel(FRONT_END), two_tones(4)
    waveforms = data.batch(np.arange(4))[0]
    v = mel_magnitude(front_end, waveforms).numpy()
    found = l2i.spectra(front_end, waveforms, 100.0)
    np.testing.assert_allclose(found, np.log(1 + 100 * v), rtol=1e-5, atol=1e-6)


def test_the_dictionary_is_of_training_clips_and_holds_their_tones():
    front_end, data = LogMel(FRONT_END), two_tones()
    w = l2i.learn_dictionary(front_end, data, SETTINGS)
    assert w.shape == (FRONT_END.n_mels, 6) and (w >= 0).all()
    torch.testing.assert_close(w.norm(dim=0), torch.ones(6))
    loudest = w.argmax(dim=0)
    assert any(b in range(32)[LOW] for b in loudest) and any(b in range(32)[HIGH] for b in loudest)
    silent = data.waveforms.clone()
    silent[data.split.test] = 0
    torch.testing.assert_close(
        l2i.learn_dictionary(front_end, replace(data, waveforms=silent), SETTINGS), w
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data, front_end, model = two_tones(gap_db=(20, 40)), LogMel(FRONT_END), LouderTone().eval()
    path = tmp_path_factory.mktemp("l2i") / "l2i.pt"
    found = l2i.fit(path, model, front_end, data, SETTINGS)
    inputs = take(data, data.split.test, "other clip", FRONT_END.sr)  # both tones sound
    return found, Explainer(model, front_end, {}, inputs), (path, model, front_end, data)


def test_decisions_are_foretold_and_the_loss_falls(trained):
    found, explainer, _ = trained
    right = found.fidelity(explainer)
    assert right.shape == (24,) and right.float().mean() > 0.9
    losses = found.history.validation_loss.to_numpy()
    assert losses[-1] < losses[0]


def test_the_mask_finds_the_band_that_decides_and_asks_for_any_class(trained):
    found, explainer, _ = trained
    other = replace(explainer, classes=1 - explainer.targets)
    gaps = []
    for case in (explainer, other):
        masks = found.masks(case)
        assert masks.shape == (24, FRONT_END.n_mels, FRONT_END.n_frames)
        assert 0 <= masks.min() and masks.max() <= 1 + 1e-6 and not masks.requires_grad
        of_band = torch.stack([masks[:, bands].amax(dim=1).mean(dim=1) for bands in (LOW, HIGH)])
        own, against = of_band.gather(0, torch.stack([case.targets, 1 - case.targets]))
        gaps.append(own - against)
    assert (gaps[0] > 0).all() and gaps[0].mean() > 0.2
    assert (gaps[1] > 0).all() and gaps[1].mean() > 0.2


def test_constant_and_random_masks_lose(trained):
    found, explainer, _ = trained
    masks = found.masks(explainer)
    others = {
        "constant": masks.mean(dim=(1, 2), keepdim=True).expand_as(masks),
        "random": torch.rand(masks.shape, generator=torch.Generator().manual_seed(0)),
    }
    own = CRITERION(judge(explainer, masks)).mean()
    for name, mask in others.items():
        assert own > CRITERION(judge(explainer, mask)).mean() + 0.2, name


def test_a_mask_of_all_atoms_keeps_everything_and_of_none_nothing(trained):
    found, explainer, _ = trained
    every = replace(found, settings=replace(found.settings, threshold=-2.0)).masks(explainer)
    torch.testing.assert_close(every, torch.ones_like(every), rtol=0, atol=1e-4)
    none = replace(found, settings=replace(found.settings, threshold=1.0)).masks(explainer)
    assert not none.any()


def test_a_share_of_the_logarithm_as_a_factor_of_the_magnitude(trained):
    found, explainer, _ = trained
    gain, part = 10.0, torch.full((24, FRONT_END.n_mels, FRONT_END.n_frames), 0.5)
    v = mel_magnitude(explainer.front_end, explainer.inputs.waveforms)
    kept = torch.log1p(gain * v * found._of_magnitude(part, explainer))
    torch.testing.assert_close(kept, 0.5 * torch.log1p(gain * v), rtol=1e-3, atol=1e-5)


def test_an_earlier_training_is_opened(trained, monkeypatch):
    found, _, (path, model, front_end, data) = trained
    monkeypatch.setattr(loop, "train", None)
    monkeypatch.setattr(l2i, "learn_dictionary", None)
    again = l2i.fit(path, model, front_end, data, SETTINGS)
    assert torch.equal(again.w, found.w)
    pairs = zip(found.reader.state_dict().values(), again.reader.state_dict().values())
    assert all(torch.equal(*pair) for pair in pairs)
