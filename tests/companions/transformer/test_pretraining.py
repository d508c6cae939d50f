"""Pre-training without labels: what is hidden stays hidden, what is seen does not count."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib.companions.transformer import pretraining
from esc_lib.companions.transformer.masked_patches import MaskedPatches, random_masks
from esc_lib.companions.transformer.network import small_ast
from esc_lib.companions.transformer.pretraining import held_out, pretrain
from esc_lib.companions.transformer.settings import Settings
from esc_lib.training import loop

SIZE = (36, 60)  # 3 x 5 patches of 16 with a step of 10, and four columns that no patch covers


def tiny(seed=0):
    torch.manual_seed(seed)
    return small_ast(3, *SIZE, width=32, layers=2, heads=2, dropout=0.0)


def mask_of(*places):
    masked = torch.zeros(1, 3, 5, dtype=torch.bool)
    for row, column in places:
        masked[0, row, column] = True
    return masked


# -------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("cluster", [1, 3, 5])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_every_item_hides_the_same_share_at_other_places(share, cluster):
    masked = random_masks(20, (6, 10), share, cluster, torch.Generator().manual_seed(0))
    assert masked.shape == (20, 6, 10)
    assert masked.flatten(1).sum(1).unique().tolist() == [min(max(1, round(60 * share)), 59)]
    assert not (masked == masked[0]).all()


def test_masks_come_in_squares_and_repeat_with_the_seed():
    one, other = (
        random_masks(200, (12, 21), 9 / 252, 3, torch.Generator().manual_seed(seed))
        for seed in (1, 1)
    )
    assert torch.equal(one, other)
    extents = [m.nonzero().amax(0) - m.nonzero().amin(0) + 1 for m in one]
    square = np.mean([extent.tolist() == [3, 3] for extent in extents])
    assert square > 0.5  # the rest touches an edge, where a square is cut off
    single = random_masks(200, (12, 21), 9 / 252, 1, torch.Generator().manual_seed(1))
    assert not any(
        (m.nonzero().amax(0) - m.nonzero().amin(0) + 1).tolist() == [3, 3] for m in single
    )


@pytest.mark.parametrize(("share", "cluster"), [(0.0, 3), (1.0, 3), (0.5, 2), (0.5, 0)])
def test_senseless_masks_are_refused(share, cluster):
    with pytest.raises(ValueError, match=f"random_masks: share={share}, cluster={cluster}"):
        random_masks(1, (3, 5), share, cluster, torch.Generator())


# --------------------------------------------------------------------------- hidden and asked


def test_hidden_points_are_those_of_the_masked_patches():
    model = MaskedPatches(tiny())
    hidden = model.hidden(torch.zeros(1, 1, *SIZE), mask_of((0, 0), (2, 4)))
    expected = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    expected[..., :16, :16] = True
    expected[..., 20:36, 40:56] = True
    assert torch.equal(hidden, expected)


@torch.no_grad()
def test_prediction_cannot_see_what_is_hidden():
    model = MaskedPatches(tiny()).eval()
    features, masked = torch.randn(1, 1, *SIZE), mask_of((1, 1), (1, 2))
    changed = features.clone()
    changed[..., 10:26, 10:36] = 100.0
    torch.testing.assert_close(model(changed, masked), model(features, masked), rtol=0, atol=0)
    changed[..., 9, 10] += 1.0  # one point further it does see
    assert not torch.equal(model(changed, masked), model(features, masked))


@torch.no_grad()
def test_only_masked_patches_count():
    model = MaskedPatches(tiny()).eval()
    model.decoder.weight.zero_()
    model.decoder.bias.fill_(0.5)  # says 0.5 everywhere
    features = torch.full((1, 1, *SIZE), 77.0)
    features[..., 0:16, 20:36] = 2.5
    features[..., 20:36, 0:16] = 1.5
    assert model.loss(features, mask_of((0, 2))).item() == pytest.approx(2.0**2)
    both = model.loss(features, mask_of((0, 2), (2, 0)))
    assert both.item() == pytest.approx((2.0**2 + 1.0**2) / 2)


@torch.no_grad()
def test_rebuilt_points_are_means_of_their_patches_and_the_rest_is_untouched():
    model = MaskedPatches(tiny()).eval()
    features, masked = torch.randn(1, 1, *SIZE), mask_of((0, 0), (0, 1))
    predicted = model(features, masked).view(3, 5, 16, 16)
    rebuilt = model.rebuild(features, masked)[0, 0]
    torch.testing.assert_close(rebuilt[:16, :10], predicted[0, 0][:, :10])
    torch.testing.assert_close(rebuilt[:16, 16:26], predicted[0, 1][:, 6:])
    shared = (predicted[0, 0][:, 10:] + predicted[0, 1][:, :6]) / 2
    torch.testing.assert_close(rebuilt[:16, 10:16], shared)
    torch.testing.assert_close(rebuilt[16:], features[0, 0, 16:], rtol=0, atol=0)
    torch.testing.assert_close(rebuilt[:, 26:], features[0, 0, :, 26:], rtol=0, atol=0)


# ----------------------------------------------------------------------------------- learning


def clips_of_one_level(n, seed):
    """Return clips whose points are all 1, or all -1: what is left tells what is hidden."""
    signs = torch.randint(2, (n, 1, 1, 1), generator=torch.Generator().manual_seed(seed))
    return (2.0 * signs - 1).expand(n, 1, *SIZE)


SETTINGS = Settings(pretraining_epochs=8, pretraining_batch=16, learning_rate=3e-3)
SHORT = Settings(pretraining_epochs=4, pretraining_batch=8)


def test_the_loss_falls_where_the_rest_tells_what_is_hidden():
    network = tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clips, others = clips_of_one_level(128, 0), clips_of_one_level(64, 1)
    fitted = pretrain(network, clips, others, SETTINGS)
    history = fitted.history
    assert list(history.columns) == ["epoch", "train_loss", "validation_loss", "seconds"]
    assert history.epoch.tolist() == list(range(1, 9))
    assert 0.2 < history.train_loss[0] < 1.5  # who knows nothing has 1
    assert history.validation_loss.iloc[-1] < 0.02
    assert (history.seconds > 0).all()
    for name, value in network.state_dict().items():  # a copy has learned
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    moved = fitted.model.network.state_dict()
    assert not torch.equal(moved[next(iter(before))], before[next(iter(before))])
    assert torch.equal(
        moved["network.classifier.dense.weight"], before["network.classifier.dense.weight"]
    )
    assert not fitted.model.training
    # what was written down is what the returned model does
    again = held_out(fitted.model, others, SETTINGS)
    assert again == pytest.approx(history.validation_loss.iloc[-1], rel=0.02)


def test_noise_cannot_be_filled_in():
    noise, other = (
        torch.randn(64, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    settings = Settings(pretraining_epochs=3, pretraining_batch=16, learning_rate=1e-3)
    assert pretrain(tiny(), noise, other, settings).history.validation_loss.iloc[-1] > 0.98


def test_the_same_seed_repeats_and_another_does_not():
    clips = clips_of_one_level(32, 0)
    settings = Settings(pretraining_epochs=2, pretraining_batch=16)
    torch.manual_seed(5)
    one = pretrain(tiny(), clips, clips, settings).history.train_loss
    torch.manual_seed(6)
    assert one.tolist() == pretrain(tiny(), clips, clips, settings).history.train_loss.tolist()
    other = pretrain(tiny(), clips, clips, settings, seed=1).history
    assert one.tolist() != other.train_loss.tolist()


def learner():
    torch.manual_seed(0)
    return small_ast(3, *SIZE, width=32, layers=2, heads=2, dropout=0.2)


@pytest.fixture(scope="module")
def whole():
    """Return the outcome of a run that was not stopped, with dropout."""
    return pretrain(learner(), clips_of_one_level(32, 0), clips_of_one_level(16, 1), SHORT)


# an epoch asks for six losses: of four steps, and of two batches that are measured
@pytest.mark.parametrize("losses", [8, 11, 12], ids=["in an epoch", "measuring", "after an epoch"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(whole, tmp_path, monkeypatch, losses):
    network, clips, others = learner(), clips_of_one_level(32, 0), clips_of_one_level(16, 1)
    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", 0.0)
    loss, calls = pretraining._loss, iter([*range(losses)])
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_loss", lambda *given: (next(calls), loss(*given))[1])
        with pytest.raises(StopIteration):
            pretrain(network, clips, others, SHORT, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    state = torch.load(path, weights_only=True)
    steps = 4 * len(state["history"]) + state["progress"]["step"]
    assert steps == {8: 6, 11: 7, 12: 8}[losses]

    torch.manual_seed(9)
    resumed = pretrain(network, clips, others, SHORT, folder=tmp_path)
    columns = ["epoch", "train_loss", "validation_loss"]
    pd.testing.assert_frame_equal(
        resumed.history[columns], whole.history[columns], check_exact=True
    )
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, whole.model.state_dict()[name], rtol=0, atol=0)

    # once finished it is only read, and other clips, settings or weights are another run
    monkeypatch.setattr(pretraining, "_loss", None)
    again = pretrain(network, clips, others, SHORT, folder=tmp_path)
    pd.testing.assert_frame_equal(again.history, resumed.history)
    for changed in ((network, -clips, others), (tiny(1), clips, others), (network, clips, -others)):
        with pytest.raises(TypeError):
            pretrain(*changed, SHORT, folder=tmp_path)


@each_edit
def test_changed_code_teaches_anew(tmp_path, monkeypatch, edit):
    given = tiny(), clips_of_one_level(8, 0), clips_of_one_level(8, 1)
    settings = Settings(pretraining_epochs=1)
    pretrain(*given, settings, folder=tmp_path)
    monkeypatch.setattr(pretraining, "_loss", None)
    pretend(monkeypatch, "companions/transformer/masked_patches", edit)
    if edit == CODE:
        with pytest.raises(TypeError):
            pretrain(*given, settings, folder=tmp_path)
    else:
        pretrain(*given, settings, folder=tmp_path)


def test_settings_of_what_comes_later_do_not_decide():
    later = {"folds", "n_frames", "views", "epochs", "classifier_rate", "full_batch"}
    clips = clips_of_one_level(8, 0)

    def identity(settings, seed=0):
        return pretraining._FillingIn(tiny(), clips, clips, settings, seed).identity

    usual = identity(SHORT)
    for field in fields(Settings):
        value = getattr(SHORT, field.name)
        other = value[:1] if isinstance(value, tuple) else value / 2
        if isinstance(value, int):
            other = value + 2
        same = identity(replace(SHORT, **{field.name: other})) == usual
        assert same == (field.name in later), field.name
    assert identity(SHORT, seed=1) != usual


def test_a_senseless_learning_rate_is_one_sentence():
    settings = Settings(pretraining_epochs=4, pretraining_batch=16, learning_rate=1e12)
    clips = 1e18 * clips_of_one_level(64, 0)
    with pytest.raises(FloatingPointError, match="train_loss is .* at pre-training .*; lower the"):
        pretrain(tiny(), clips, clips, settings)


def test_the_caller_s_randomness_is_untouched():
    network, clips = tiny(), clips_of_one_level(8, 0)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    pretrain(network, clips, clips, Settings(pretraining_epochs=1))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
