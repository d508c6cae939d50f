"""The training loop step by step, the judge, verdicts with intervals, and checkpoints."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.companions.crossmodal import evaluation, judge, procedural, training
from esc_lib.companions.crossmodal.pairs import Pictures
from esc_lib.companions.crossmodal.settings import Settings
from esc_lib.companions.crossmodal.steps import Chance
from esc_lib.evaluation.intervals import accuracy_interval
from esc_lib.training import loop

SMALL = Settings(width=0.125, attention=256, steps=4, classifier_steps=3, batch=8, log_every=2)


@pytest.fixture(scope="module")
def pairs():
    return procedural.make(n_per_class=10, n_sources=5)


@pytest.fixture(scope="module")
def trained(pairs):
    return training.fit(pairs, SMALL)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# ------------------------------------------------------------------------------ training


def test_an_epoch_has_every_row_once_and_epochs_differ():
    chance, few = Chance(10, 5, [0]), Chance(3, 64, [0])
    drawn = [chance.rows(step) for step in range(4)]
    first, second = np.concatenate(drawn[:2]), np.concatenate(drawn[2:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert [len(few.rows(step)) for step in range(2)] == [3, 3]


def test_training_repeats_exactly_and_leaves_the_random_state_alone(pairs, trained):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    again = training.fit(pairs, SMALL)
    assert torch.rand(1) == expected
    for name in training.NETWORKS:
        assert torch.equal(weights(getattr(again, name)), weights(getattr(trained, name))), name
    columns = ["step", "discriminator_loss", "generator_loss", "real", "fake", "mismatched"]
    assert again.history[columns].equals(trained.history[columns])
    other = training.fit(pairs, replace(SMALL, seed=1))
    assert not torch.equal(weights(other.generator), weights(trained.generator))


def test_history_has_a_row_every_so_many_steps(trained):
    assert trained.history.step.tolist() == [2, 4]
    assert trained.encoder_history.step.tolist() == [2, 3]  # the last row has what remains
    assert np.isfinite(trained.history.to_numpy()).all()
    assert not any(getattr(trained, name).training for name in training.NETWORKS)


def test_who_is_trained_when(pairs, monkeypatch):
    """The discriminator on odd steps only, the generator on all, the encoder not at all."""
    followed = []
    descend = training.descend

    def watched(optimizer, loss):
        before = [weights(n).clone() for n in (game.generator, game.discriminator, encoder)]
        descend(optimizer, loss)
        after = [weights(n) for n in (game.generator, game.discriminator, encoder)]
        changed = [not torch.equal(b, a) for b, a in zip(before, after)]
        followed.append((["discriminator", "generator"][optimizer is game.g_optimizer], *changed))

    monkeypatch.setattr(training, "descend", watched)
    fresh = training.build(pairs, replace(SMALL, steps=3))
    encoder = fresh.encoder.eval()
    inputs, outputs = (side["train"] for side in pairs.sides("S2I"))
    game = training.Game(fresh, inputs, outputs)
    game.play()
    assert followed == [
        ("discriminator", False, True, False),
        ("generator", True, False, False),
        ("generator", True, False, False),
        ("discriminator", False, True, False),
        ("generator", True, False, False),
    ]
    rates = [o.param_groups[0]["lr"] for o in (game.g_optimizer, game.d_optimizer)]
    assert rates == [5e-4, 1e-4]
    assert game.d_optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def test_the_discriminator_gets_matching_and_mismatched_pairs(pairs, monkeypatch):
    """Codes carry their labels, pictures theirs: each third of the scored pairs is what it says."""
    fresh = training.build(pairs, SMALL)
    inputs, outputs = (side["train"] for side in pairs.sides("S2I"))
    game = training.Game(fresh, inputs, outputs)
    game.codes = inputs.labels[None, :, None].expand(2, -1, 64).float()
    game.outputs = Pictures(
        outputs.labels[:, None, None, None].expand(-1, 1, 64, 64), outputs.labels, outputs.sources
    )
    seen = {}

    def tower(pictures):
        seen["labels"] = ((pictures[:, 0, 0, 0] + 1) * 127.5).round()
        return seen["labels"]

    def score(codes, maps):
        seen["codes"], seen["maps"] = codes[:, 0], maps
        return torch.zeros(len(codes), requires_grad=True)

    monkeypatch.setattr(game.discriminator.tower, "forward", tower)
    monkeypatch.setattr(game.discriminator, "score", score)
    rows = np.arange(20)
    game.train_discriminator(rows)
    real, fake, mismatched = zip(seen["codes"].chunk(3), seen["maps"].chunk(3))
    assert torch.equal(real[0], inputs.labels[rows].float()) and torch.equal(*real)
    assert torch.equal(fake[0], real[0]) and torch.equal(fake[1], seen["labels"][20:])
    assert torch.equal(mismatched[1], real[1]) and not (mismatched[0] == mismatched[1]).any()


def test_a_loss_that_is_not_finite_stops_training(pairs):
    with pytest.raises(FloatingPointError, match=r"train: .*tor_loss is nan at generator \d, step"):
        training.fit(pairs, replace(SMALL, learning_rate=1e38, generator_rate=1e38))


def test_the_encoder_learns_its_classes(pairs):
    settings = replace(SMALL, classifier_steps=40, batch=20, encoder_rate=1e-3, log_every=4)
    fresh = training.build(pairs, settings)
    history = training.fit_encoder(fresh.encoder, pairs.sounds["train"], settings)
    assert history.accuracy.iloc[0] < 0.6 < 0.9 < history.accuracy.iloc[-1]
    assert history.loss.iloc[-1] < history.loss.iloc[0]


def test_the_generator_learns_to_please_a_fixed_discriminator(pairs):
    settings = replace(SMALL, direction="I2S", steps=12, critic_every=1000, log_every=1)
    history = training.fit(pairs, settings).history
    assert history.generator_loss.iloc[-1] < history.generator_loss.iloc[0]
    assert history.discriminator_loss.notna().sum() == 1  # it saw one step


LONGER = replace(
    SMALL, steps=11, classifier_steps=11, batch=24, log_every=3, code_views=2, augmentation=1.0
)


@pytest.fixture(scope="module")
def whole(pairs):
    """Return an uninterrupted training."""
    return training.fit(pairs, LONGER)


@pytest.mark.parametrize("stage", ["encoder", "generator"])
@pytest.mark.parametrize("save_interval_s", [1e9, -1.0])
def test_a_training_interrupted_and_resumed_equals_one_that_was_not(
    pairs, whole, tmp_path, monkeypatch, stage, save_interval_s
):
    settings, left = LONGER, [8]  # the second step of the third row

    def interrupted(*arguments):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return original(*arguments)

    place = {"encoder": (training, "distort"), "generator": (training.Game, "train_generator")}
    original = getattr(*place[stage])
    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", save_interval_s)
    with monkeypatch.context() as patch:
        patch.setattr(*place[stage], interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.fit(pairs, settings, tmp_path)
    saved = [path.stem for path in sorted(tmp_path.iterdir())]
    assert saved == ["encoder"] * (stage == "generator") + [stage] * (save_interval_s < 0)
    if save_interval_s < 0:
        state = torch.load(tmp_path / f"{stage}.pt", weights_only=True)
        assert (len(state["history"]), state["progress"]["step"]) == (2, 1)
    found = training.fit(pairs, settings, tmp_path)
    for name in training.NETWORKS:
        first, second = getattr(found, name).state_dict(), getattr(whole, name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in second), name
    for name in training.HISTORIES:
        first, second = (getattr(t, name).drop(columns="seconds") for t in (found, whole))
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    monkeypatch.setattr(loop, "_train_epoch", lambda *_: pytest.fail("trained again"))
    training.fit(pairs, settings, tmp_path)


def test_codes_do_not_depend_on_the_batch(pairs, trained, monkeypatch):
    sounds = pairs.sounds["test"]
    whole = training.encode(trained.encoder, sounds)
    monkeypatch.setattr(training, "AT_ONCE", 7)
    torch.testing.assert_close(training.encode(trained.encoder, sounds), whole)


def test_the_generator_learns_from_several_codes_of_a_picture(pairs, trained):
    sounds = pairs.sounds["train"]
    settings = replace(SMALL, code_views=3, augmentation=1.0)
    views = training.encode_views(trained.encoder, sounds, settings)
    assert views.shape == (3, len(sounds), 64)
    torch.testing.assert_close(views[0], training.encode(trained.encoder, sounds))
    assert not any(torch.allclose(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    game = training.Game(replace(trained, settings=settings), sounds, pairs.images["train"])
    drawn = game.draw_codes(np.full(60, 5))
    which = [[torch.equal(code, view[5]) for view in game.codes].index(True) for code in drawn]
    assert set(which) == {0, 1, 2}


# -------------------------------------------------------------------- judge and verdicts


def test_a_judge_learns_real_pictures_of_held_out_sources(pairs):
    for side in (pairs.sounds, pairs.images):
        found = judge.train_judge(side["train"], 10, steps=80)
        assert evaluation.judge_accuracy(found, side["train"])["accuracy"] > 90
        assert evaluation.judge_accuracy(found, side["test"])["accuracy"] > 40
    one, again = (judge.train_judge(side["train"], 10, steps=8) for _ in range(2))
    assert torch.equal(weights(one), weights(again))


def test_pictures_are_moved_by_few_pixels():
    pictures = torch.zeros(2, 1, 64, 64)
    pictures[..., 30, 30] = 1
    for seed in range(20):
        moved = judge._move(pictures, np.random.default_rng(seed))
        assert moved.shape == pictures.shape
        place = (moved[0, 0] == 1).nonzero()[0] - 30
        assert place.abs().max() <= judge.MAX_SHIFT


def oracle(pictures):
    """Read the label from a picture's first pixel."""
    return torch.nn.functional.one_hot(((pictures[:, 0, 0, 0] + 1) * 5).round().long(), 10)


def test_verdicts_cover_the_whole_part(pairs, trained, monkeypatch):
    labels = pairs.sounds["test"].labels

    def generate(_trained, inputs):
        said = (inputs.labels + (inputs.labels == 3)) / 5 - 1  # every 3 becomes a 4
        return said[:, None, None, None].expand(-1, 1, 64, 64)

    monkeypatch.setattr(evaluation, "generate", generate)
    table = evaluation.verdicts(trained, oracle, pairs)
    assert table.label.tolist() == labels.tolist()
    assert (table.judged[table.label == 3] == 4).all()
    assert (table.right == (table.label != 3)).all()
    assert table.source.tolist() == pairs.sounds["test"].sources.tolist()
    row = evaluation.compare({"run": table}).loc["run"]
    assert row.accuracy == pytest.approx(90)
    assert row.understood == pytest.approx(100 * (table.understood == table.label).mean())


def test_generated_pictures_are_one_per_input_and_follow_the_seed(pairs, trained, monkeypatch):
    inputs = pairs.sounds["test"]
    first = evaluation.generate(trained, inputs)
    assert first.shape == (len(inputs), 1, 64, 64)
    assert first.abs().max() <= 1
    assert not torch.allclose(first, evaluation.generate(trained, inputs, seed=1))
    monkeypatch.setattr(evaluation, "AT_ONCE", 7)
    torch.testing.assert_close(first, evaluation.generate(trained, inputs))


def test_intervals_are_over_sources_where_there_are_enough():
    right = np.repeat([True, False], 50)
    two, ten = np.repeat(["a", "b"], 50), np.repeat(np.arange(10), 10)
    few = evaluation.accuracy(right, two)
    low, high = accuracy_interval(50, 100)
    assert few == {
        "accuracy": 50, "low": 100 * low, "high": 100 * high, "pictures": 100, "sources": 2,
        "over": "pictures",
    }  # fmt: skip
    many = evaluation.accuracy(right, ten)  # half of the sources all right, half all wrong
    assert many["over"] == "sources"
    assert many["high"] - many["low"] > few["high"] - few["low"]
    assert many["low"] == pytest.approx(20, abs=6)  # binomial of ten


def test_differences_are_paired():
    right = np.arange(100) % 4 > 0
    table = pd.DataFrame({"label": 0, "source": np.repeat(np.arange(10), 10), "right": right})
    worse = table.assign(right=right & (np.arange(100) % 10 != 1))
    found = evaluation.difference(table, worse)
    n_lost = (table.right & ~worse.right).sum()
    assert found["difference"] == n_lost > 0
    assert 0 <= found["low"] <= found["difference"] <= found["high"]
    same = evaluation.difference(table, table)
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    with pytest.raises(ValueError, match="difference: the two runs judged different inputs"):
        evaluation.difference(table, table[:50])


def test_published_accuracies_stand_for_whole_pictures_of_a_batch():
    own = evaluation.PUBLISHED["S2I"]["SA-CMGAN"][1]
    assert own == pytest.approx(100 * 54 / evaluation.PUBLISHED_BATCH, abs=0.01)
    for rows in evaluation.PUBLISHED.values():
        without = rows["SA-CMGAN without attention"]
        assert all(a > b for a, b in zip(rows["SA-CMGAN"], without, strict=True))


def test_the_poster_is_shown_with_the_interval_of_its_batch():
    table = evaluation.published("S2I")
    own = table.loc["SA-CMGAN"]
    assert (own.low, own.high) == pytest.approx((73.6, 91.3), abs=0.1)
    assert table.loc["CMCGAN", ["low", "high"]].isna().all()
    assert "I2S" in evaluation.published("I2S").index
    assert "I2S" not in evaluation.published("I2S", "train").index  # not printed


def test_gammas_are_those_of_the_networks(pairs, trained):
    fresh = training.build(pairs, SMALL)
    assert evaluation.gammas(fresh) == dict.fromkeys(training.NETWORKS, 0)
    assert all(evaluation.gammas(trained).values())  # three steps move them
    assert evaluation.gammas(training.build(pairs, replace(SMALL, attention=None))) == {}


def test_reach_of_known_attention():
    side, places = 6, torch.arange(36)
    even = torch.full((2, 36, 36), 1 / 36)
    assert evaluation.reach(even) == pytest.approx({"frequency": 1, "time": 1})
    own = torch.eye(36)[None]
    assert evaluation.reach(own) == {"frequency": 0, "time": 0}
    pooled = torch.full((2, 36, 9), 1 / 9)
    assert evaluation.reach(pooled) == pytest.approx({"frequency": 1, "time": 1})
    same_row = (places[:, None] // side == places // side).float()[None] / side
    assert evaluation.reach(same_row) == pytest.approx({"frequency": 0, "time": 1})


# ---------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_brings_everything_back(pairs, trained, tmp_path):
    path = tmp_path / "s2i.safetensors"
    training.save(path, trained)
    found = training.load(path, pairs)
    assert found.settings == SMALL
    pd.testing.assert_frame_equal(found.history, trained.history)
    inputs = pairs.sounds["test"]
    assert torch.equal(evaluation.generate(found, inputs), evaluation.generate(trained, inputs))
    codes, pictures = torch.randn(2, 64), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            found.discriminator(codes, pictures), trained.discriminator(codes, pictures)
        )


def test_a_damaged_or_foreign_checkpoint_is_named(pairs, trained, tmp_path):
    path = tmp_path / "s2i.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"read: .*s2i.safetensors is damaged or of other pairs"):
        training.load(path, pairs)
    training.save(path, trained)
    fewer = replace(pairs, class_names=pairs.class_names[:9])
    with pytest.raises(ValueError, match="is damaged or of other pairs"):
        training.load(path, fewer)
