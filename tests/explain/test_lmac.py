"""L-MAC: its loss by hand, gradients that reach the decoder only, a task whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, HIGH, LOW, N_SAMPLES, LouderTone, small_network, two_tones

from esc_lib.explain import lmac
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.interpreters import Network
from esc_lib.explain.judge import judge
from esc_lib.explain.masks import cut_out
from esc_lib.explain.scores import CRITERION
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import loop

SETTINGS = lmac.Settings(
    layers=("halves", "votes"), width=8, steps=120, learning_rate=0.02
)


def test_the_loss_of_two_sounds_by_hand():
    inside = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    outside = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    mask = torch.stack([torch.full((4, 5), 0.25), torch.eye(4, 5)])
    settings = replace(SETTINGS, inside=3.0, outside=0.5, area=2.0)
    found = lmac.objective(inside, outside, mask, torch.tensor([0, 1]), settings)
    first = 3 * np.log(1 + np.exp(-2)) - 0.5 * np.log(1 + np.exp(1)) + 2 * 0.25
    second = 3 * np.log(2) - 0.5 * np.log(1 + np.exp(3)) + 2 * 0.2
    np.testing.assert_allclose(found, [first, second], rtol=1e-6)


@pytest.mark.usefixtures("exact")
def test_what_the_network_sees_of_a_mask_is_what_it_sees_of_the_sound_that_is_cut_out():
    front_end, n_valid = LogMel(FRONT_END), torch.tensor([N_SAMPLES])
    sound = 0.1 * torch.randn(1, N_SAMPLES, generator=torch.Generator().manual_seed(0))
    power = front_end.stft(sound).abs().square()
    mask = torch.linspace(0.2, 1, FRONT_END.n_mels)[None, :, None].repeat(1, 1, FRONT_END.n_frames)
    mask[:, :, 30:] *= 0.5
    found = lmac.masked_features(front_end, power, mask, n_valid)
    expected = front_end.features(cut_out(front_end, sound, mask), n_valid)
    # the sound's own frames overlap, so a spectrum behind a mask is no sound's, but nearly
    assert (found - expected).abs().mean() < 0.05 and found.std() > 0.9
    plain = lmac.masked_features(front_end, power, torch.ones_like(mask), n_valid)
    torch.testing.assert_close(plain, front_end.features(sound, n_valid), rtol=0, atol=1e-3)


def test_gradients_reach_the_decoder_and_nothing_else(tmp_path):
    data, front_end, model = two_tones(32), LogMel(FRONT_END), small_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = replace(SETTINGS, layers=("conv_block3", "conv_block4", "conv_block5"), steps=2)
    found = lmac.fit(tmp_path / "lmac.pt", model, front_end, data, settings)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in model.parameters())
    torch.manual_seed(0)
    fresh = lmac.Decoder([8, 8, 6], 8)
    pairs = zip(fresh.parameters(), found.decoder.parameters(), strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)


def test_every_parameter_of_the_decoder_has_a_gradient():
    front_end, model, data = LogMel(FRONT_END), LouderTone(), two_tones(16)
    network = Network(model, front_end, ("votes", "halves"))
    decoder = lmac.Decoder([shape[0] for shape in network.shapes()], 8)
    loss = lmac.loss(decoder, network, take(data, np.arange(8), "clean", FRONT_END.sr), SETTINGS)
    assert loss.shape == (8,)
    loss.mean().backward()
    assert all(each.grad.abs().sum() > 0 for each in decoder.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data, front_end, model = two_tones(192), LogMel(FRONT_END), LouderTone().eval()
    path = tmp_path_factory.mktemp("lmac") / "lmac.pt"
    return data, front_end, model, lmac.fit(path, model, front_end, data, SETTINGS), path


def explainer_of(data, front_end, model, condition="clean"):
    return Explainer(model, front_end, {}, take(data, data.split.test, condition, FRONT_END.sr))


def test_the_mask_finds_the_band_that_decides(trained):
    data, front_end, model, found, _ = trained
    explainer = explainer_of(data, front_end, model)
    masks = found.masks(explainer)
    assert masks.shape == (len(data.split.test), FRONT_END.n_mels, FRONT_END.n_frames)
    assert 0 <= masks.min() and masks.max() <= 1 and not masks.requires_grad
    of_band = torch.stack([masks[:, bands].mean(dim=(1, 2)) for bands in (LOW, HIGH)], dim=1)
    own = of_band.gather(1, explainer.targets[:, None])
    other = of_band.gather(1, 1 - explainer.targets[:, None])
    assert (own > other).float().mean() > 0.85 and (own - other).mean() > 0.4


def test_constant_and_random_masks_lose(trained):
    data, front_end, model, found, _ = trained
    explainer = explainer_of(data, front_end, model)
    masks = found.masks(explainer)
    others = {
        "constant": masks.mean(dim=(1, 2), keepdim=True).expand_as(masks),
        "random": torch.rand(masks.shape, generator=torch.Generator().manual_seed(0)),
    }
    of = {name: CRITERION(judge(explainer, mask)).mean()
          for name, mask in {"own": masks, **others}.items()}  # fmt: skip
    for name in others:
        assert of["own"] > of[name] + 0.3, name


def test_the_history_falls_and_an_earlier_training_is_opened(trained, monkeypatch):
    data, front_end, model, found, path = trained
    losses = found.history.validation_loss.to_numpy()
    assert losses[-1] < losses[0] - 0.1
    monkeypatch.setattr(loop, "train", None)
    again = lmac.fit(path, model, front_end, data, SETTINGS)
    pairs = zip(found.decoder.state_dict().values(), again.decoder.state_dict().values())
    assert all(torch.equal(*pair) for pair in pairs)
    with pytest.raises(TypeError):  # with other settings there is none
        lmac.fit(path, model, front_end, data, replace(SETTINGS, area=0.1))
