"""How much bands, channels and atoms speak for a class: against derivatives taken by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from two_bands import FRONT_END, settled

from esc_lib.config import Network
from esc_lib.explain import relevance
from esc_lib.explain.components import Components
from esc_lib.explain.conditions import BATCH
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel, standardise

N_SAMPLES = FRONT_END.n_samples
LAYERS = ("conv_block2", "se3", "conv_block5")
OWN = {layer: layer for layer in LAYERS}
pytestmark = pytest.mark.usefixtures("exact")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def secnn():
    torch.manual_seed(0)
    return settled(SECNN(5, Network(channels=(4, 8, 8, 16, 16), se_reduction=4, hidden=32)))


class Bent(nn.Module):
    """A smooth network without layers, in float64 for derivatives by differences."""

    def __init__(self):
        super().__init__()
        n = FRONT_END.n_mels * FRONT_END.n_frames
        self.weight = torch.randn(3, n, generator=generator(7), dtype=torch.float64) / n**0.5

    def forward(self, features):
        return torch.tanh(features.double().flatten(1) @ self.weight.T) * 2


def clips(n=2):
    """Return noise, (n, samples), and lengths: every second clip ends early."""
    waveforms = 0.1 * torch.randn(n, N_SAMPLES, generator=generator(3))
    n_valid = torch.full((n,), N_SAMPLES)
    n_valid[1::2] = 40 * FRONT_END.hop_length
    return waveforms * (torch.arange(N_SAMPLES) < n_valid[:, None]), n_valid


# ------------------------------------------------------------------------------------- the score


def test_log_odds_are_those_of_the_softmax():
    logits = torch.randn(6, 4, generator=generator(), dtype=torch.float64) * 3
    targets = torch.tensor([0, 3, 1, 2, 2, 0])
    p = logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(relevance.log_odds(logits, targets), (p / (1 - p)).log())


def test_log_odds_do_not_saturate_where_the_probability_does():
    logits = torch.tensor([[300.0, 0.0, 0.0]], requires_grad=True)
    found = relevance.log_odds(logits, torch.tensor([0]))
    assert float(found.detach()) == pytest.approx(300 - np.log(2))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -0.5, -0.5]]))


def test_of_target_picks_the_target():
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert relevance.of_target(logits, torch.tensor([1, 0])).tolist() == [2.0, 3.0]


# ----------------------------------------------------------------------------------------- bands


def test_bands_are_the_change_of_the_log_odds_when_one_is_turned_up():
    model, front_end, (waveforms, n_valid) = Bent(), LogMel(FRONT_END), clips()
    targets = torch.tensor([0, 2])
    found = relevance.read(model, front_end, waveforms, n_valid, targets).bands
    assert found.shape == (2, FRONT_END.n_mels, FRONT_END.n_frames)
    log_mel = front_end(waveforms, n_valid).double()
    n_inside = front_end.n_valid_frames(n_valid)
    inside = (torch.arange(FRONT_END.n_frames) < n_inside[:, None])[:, None]
    step_db = 0.01

    def turned(clip, band, frame, by_db):
        louder = log_mel.clone()
        louder[clip, band, frame] += by_db
        logits = model(standardise(louder, inside)[:, None])
        p = logits.softmax(dim=1)[clip, targets[clip]]
        return float((p / (1 - p)).log())

    places = [(0, 3, 0), (0, 17, 33), (0, 31, 69), (1, 5, 12), (1, 20, 39)]
    for place in places:
        by_hand = (turned(*place, step_db) - turned(*place, -step_db)) / (2 * step_db)
        per_neper = by_hand * 20 / np.log(10)
        assert float(found[place]) == pytest.approx(per_neper, rel=2e-3, abs=1e-6)
    assert np.std([float(found[place]) for place in places]) > 1e-3
    assert (found[1, :, n_inside[1] :] == 0).all()  # after the clip's end there is nothing to turn


def test_turning_all_bands_up_changes_nothing():
    found = relevance.read(Bent(), LogMel(FRONT_END), *clips(), torch.tensor([1, 0])).bands
    assert (found.sum(dim=(1, 2)).abs() < 1e-5 * found.abs().sum(dim=(1, 2))).all()


# ----------------------------------------------------------------------------------------- atoms


def test_atoms_share_the_relevance_of_the_bands_out():
    bands = torch.randn(3, 32, 70, generator=generator(0), dtype=torch.float64)
    w = torch.rand(32, 6, generator=generator(1), dtype=torch.float64)
    h = torch.rand(3, 6, 2, generator=generator(2), dtype=torch.float64)  # of 32 frames each
    h[0, :, 1] = 0  # no atom is active
    scale = torch.rand(6, generator=generator(3), dtype=torch.float64)
    found = Components("", w, scale).relevance(bands, h)
    assert found.shape == h.shape
    expected = torch.stack([bands[:, :, :32].sum((1, 2)), bands[:, :, 32:64].sum((1, 2))], dim=1)
    expected[0, 1] = 0
    torch.testing.assert_close(found.sum(dim=1), expected)


def test_an_atom_has_the_change_of_the_score_when_it_is_turned_up():
    bands = torch.randn(1, 12, 9, generator=generator(0), dtype=torch.float64)
    w = torch.rand(12, 4, generator=generator(1), dtype=torch.float64)
    h = torch.rand(1, 4, 2, generator=generator(2), dtype=torch.float64)  # of 4 frames each
    level = h.log().requires_grad_()  # in neper

    def score(level):  # linear in the level of each band and frame, with `bands` as its slope
        each = (w @ level.exp()).log().repeat_interleave(4, dim=2)
        return (bands[:, :, :8] * each).sum()

    (expected,) = torch.autograd.grad(score(level), level)
    torch.testing.assert_close(Components("", w, torch.ones(4)).relevance(bands, h), expected)


def test_to_one_level_has_a_mean_size_of_one_and_leaves_zero():
    values = torch.randn(3, 4, 5, generator=generator())
    values[1] = 0
    found = relevance.to_one_level(values)
    torch.testing.assert_close(found.abs().mean(dim=(1, 2)), torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(found.sign(), values.sign())


# -------------------------------------------------------------------------------------- channels


def by_hand(model, layer, features, target):
    """Return one clip's maps in a layer and the gradient of the log-odds there."""
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.update(maps=output)
    )
    logits = model(features)
    handle.remove()
    p = logits.softmax(dim=1)[0, target]
    (gradient,) = torch.autograd.grad((p / (1 - p)).log(), kept["maps"])
    return kept["maps"].detach(), gradient


def test_channels_equal_gradient_times_activation_by_hand():
    model, front_end, (waveforms, n_valid) = secnn(), LogMel(FRONT_END), clips(3)
    features, targets = front_end.features(waveforms, n_valid), torch.tensor([0, 4, 2])
    found = relevance.read(model, front_end, waveforms, n_valid, targets, OWN).layers
    assert list(found) == list(LAYERS)
    for layer, (h, channels) in found.items():
        for clip, target in enumerate(targets):  # alone: clips and their targets do not mix
            maps, gradient = by_hand(model, layer, features[[clip]], target)
            expected = torch.einsum("bkft,bkft->bkt", maps, gradient)[0]
            tolerance = {"rtol": 0, "atol": 1e-4 * float(expected.abs().max())}
            torch.testing.assert_close(channels[clip], expected, **tolerance)
            torch.testing.assert_close(h[clip], maps.mean(dim=2)[0], rtol=1e-4, atol=1e-6)
        assert channels.std() > 1e-4  # else the comparison would say little


def test_another_target_changes_its_own_clip_only():
    sounds = secnn(), LogMel(FRONT_END), *clips(2)
    one = relevance.read(*sounds, torch.tensor([1, 1]), OWN).layers
    other = relevance.read(*sounds, torch.tensor([1, 3]), OWN).layers
    for layer in LAYERS:
        (_, first), (_, second) = one[layer], other[layer]
        assert torch.equal(first[0], second[0])
        assert not torch.allclose(first[1], second[1])


def test_batches_of_sixteen_equal_clips_one_by_one():
    model, n = secnn(), BATCH + 2
    features = torch.randn(n, 1, FRONT_END.n_mels, FRONT_END.n_frames, generator=generator(4))
    targets = torch.arange(n) % 5
    batches = list(relevance.maps_and_gradients(model, LAYERS, features, targets))
    assert [len(batch["se3"][0]) for batch in batches] == [16, 2]
    ones = zip(features.split(1), targets.split(1), strict=True)
    alone = [next(relevance.maps_and_gradients(model, LAYERS, *one)) for one in ones]
    for layer in LAYERS:
        for i, name in enumerate(("maps", "gradient")):
            together = torch.cat([batch[layer][i] for batch in batches])
            expected = torch.cat([one[layer][i] for one in alone])
            tolerance = {"rtol": 0, "atol": 1e-4 * float(expected.abs().max())}
            torch.testing.assert_close(
                together, expected, **tolerance, msg=lambda m, at=(layer, name): f"{at}: {m}"
            )
    assert not features.requires_grad and all(p.grad is None for p in model.parameters())
