"""The training loop step by step, the judge, verdicts with intervals, and checkpoints."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.companions.crossmodal import checkpoint, experiment, judge, procedural, training
from esc_lib.companions.crossmodal.pairs import Pictures
from esc_lib.evaluation.intervals import accuracy_interval

SMALL = training.Settings(
    width=0.125, attention=256, steps=4, classifier_steps=3, batch=8, log_every=2
)


@pytest.fixture(scope="module")
def pairs():
    return procedural.make(n_per_class=10, n_sources=5)


@pytest.fixture(scope="module")
def trained(pairs):
    return training.fit(pairs, "S2I", SMALL)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# ------------------------------------------------------------------------------ training


def test_an_epoch_has_every_row_once_and_epochs_differ():
    drawn = [rows for _, rows in training.batches(10, 5, 4, [0])]
    first, second = np.concatenate(drawn[:2]), np.concatenate(drawn[2:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert [len(rows) for _, rows in training.batches(3, 64, 2, [0])] == [3, 3]


def test_training_repeats_exactly_and_leaves_the_random_state_alone(pairs, trained):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    again = training.fit(pairs, "S2I", SMALL)
    assert torch.rand(1) == expected
    for name in checkpoint.NETWORKS:
        assert torch.equal(weights(getattr(again, name)), weights(getattr(trained, name))), name
    columns = ["step", "discriminator_loss", "generator_loss", "real", "fake", "mismatched"]
    assert again.history[columns].equals(trained.history[columns])
    other = training.fit(pairs, "S2I", replace(SMALL, seed=1))
    assert not torch.equal(weights(other.generator), weights(trained.generator))


def test_history_has_a_row_every_so_many_steps(trained):
    assert trained.history.step.tolist() == [2, 4]
    assert trained.encoder_history.step.tolist() == [2]
    assert np.isfinite(trained.history.to_numpy()).all()
    assert not any(getattr(trained, name).training for name in checkpoint.NETWORKS)


def test_who_is_trained_when(pairs, monkeypatch):
    """The discriminator on odd steps only, the generator on all, the encoder not at all."""
    followed = []
    follow = training._follow

    def watched(optimizer, loss, where):
        before = [weights(n).clone() for n in (game.generator, game.discriminator, encoder)]
        follow(optimizer, loss, where)
        after = [weights(n) for n in (game.generator, game.discriminator, encoder)]
        changed = [not torch.equal(b, a) for b, a in zip(before, after)]
        followed.append((where, *changed))

    monkeypatch.setattr(training, "_follow", watched)
    fresh = training.build(pairs, "S2I", replace(SMALL, steps=3))
    encoder = fresh.encoder.eval()
    inputs, outputs = (side["train"] for side in pairs.sides("S2I"))
    game = training._Game(fresh, inputs, outputs)
    game.play()
    assert followed == [
        ("step 1 of the discriminator", False, True, False),
        ("step 1 of the generator", True, False, False),
        ("step 2 of the generator", True, False, False),
        ("step 3 of the discriminator", False, True, False),
        ("step 3 of the generator", True, False, False),
    ]
    rates = [o.param_groups[0]["lr"] for o in (game.g_optimizer, game.d_optimizer)]
    assert rates == [5e-4, 1e-4]
    assert game.d_optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def test_the_discriminator_gets_matching_and_mismatched_pairs(pairs, monkeypatch):
    """Codes carry their labels, pictures theirs: each third of the scored pairs is what it says."""
    fresh = training.build(pairs, "S2I", SMALL)
    inputs, outputs = (side["train"] for side in pairs.sides("S2I"))
    game = training._Game(fresh, inputs, outputs)
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
    game.train_discriminator(1, rows, np.random.default_rng(0))
    real, fake, mismatched = zip(seen["codes"].chunk(3), seen["maps"].chunk(3))
    assert torch.equal(real[0], inputs.labels[rows].float()) and torch.equal(*real)
    assert torch.equal(fake[0], real[0]) and torch.equal(fake[1], seen["labels"][20:])
    assert torch.equal(mismatched[1], real[1]) and not (mismatched[0] == mismatched[1]).any()


def test_a_loss_that_is_not_finite_stops_training(pairs):
    with pytest.raises(FloatingPointError, match=r"fit: the loss of step \d+ of the .* is nan"):
        training.fit(pairs, "S2I", replace(SMALL, learning_rate=1e38, generator_rate=1e38))


def test_the_encoder_learns_its_classes(pairs):
    settings = replace(SMALL, classifier_steps=40, batch=20, learning_rate=1e-3, log_every=4)
    fresh = training.build(pairs, "S2I", settings)
    history = training.fit_encoder(fresh.encoder, pairs.sounds["train"], settings)
    assert history.accuracy.iloc[0] < 0.6 < 0.9 < history.accuracy.iloc[-1]
    assert history.loss.iloc[-1] < history.loss.iloc[0]


def test_the_generator_learns_to_please_a_fixed_discriminator(pairs):
    settings = replace(SMALL, steps=12, critic_every=1000, log_every=1)
    history = training.fit(pairs, "I2S", settings).history
    assert history.generator_loss.iloc[-1] < history.generator_loss.iloc[0]
    assert history.discriminator_loss.notna().sum() == 1  # it saw one step


def test_mixed_precision_gives_finite_losses(pairs):
    found = training.fit(pairs, "S2I", replace(SMALL, mixed_precision=True))
    assert np.isfinite(found.history.generator_loss).all()


def test_codes_do_not_depend_on_the_batch(pairs, trained):
    sounds = pairs.sounds["test"]
    torch.testing.assert_close(
        training.encode(trained.encoder, sounds, batch=7),
        training.encode(trained.encoder, sounds, batch=100),
    )


def test_the_generator_learns_from_several_codes_of_a_picture(pairs, trained):
    sounds = pairs.sounds["train"]
    settings = replace(SMALL, code_views=3, augmentation=1.0)
    views = training.encode_views(trained.encoder, sounds, settings)
    assert views.shape == (3, len(sounds), 64)
    torch.testing.assert_close(views[0], training.encode(trained.encoder, sounds))
    assert not any(torch.allclose(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    game = training._Game(replace(trained, settings=settings), sounds, pairs.images["train"])
    drawn = game.draw_codes(np.full(60, 5), np.random.default_rng(0))
    which = [[torch.equal(code, view[5]) for view in game.codes].index(True) for code in drawn]
    assert set(which) == {0, 1, 2}


# -------------------------------------------------------------------- judge and verdicts


def test_a_judge_learns_real_pictures_of_held_out_sources(pairs):
    for side in (pairs.sounds, pairs.images):
        found = judge.train_judge(side["train"], 10, steps=80, batch=32)
        assert experiment.judge_accuracy(found, side["train"])["accuracy"] > 90
        assert experiment.judge_accuracy(found, side["test"])["accuracy"] > 40
    again = judge.train_judge(side["train"], 10, steps=80, batch=32)
    assert torch.equal(weights(found), weights(again))


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

    def generate(_trained, inputs, seed):
        said = (inputs.labels + (inputs.labels == 3)) / 5 - 1  # every 3 becomes a 4
        return said[:, None, None, None].expand(-1, 1, 64, 64)

    monkeypatch.setattr(experiment, "generate", generate)
    table = experiment.verdicts(trained, oracle, pairs)
    assert table.label.tolist() == labels.tolist()
    assert (table.judged[table.label == 3] == 4).all()
    assert (table.right == (table.label != 3)).all()
    assert table.source.tolist() == pairs.sounds["test"].sources.tolist()
    row = experiment.compare({"run": table}).loc["run"]
    assert row.accuracy == pytest.approx(90)
    assert row.understood == pytest.approx(100 * (table.understood == table.label).mean())


def test_generated_pictures_are_one_per_input_and_follow_the_seed(pairs, trained):
    inputs = pairs.sounds["test"]
    first = experiment.generate(trained, inputs)
    assert first.shape == (len(inputs), 1, 64, 64)
    assert first.abs().max() <= 1
    torch.testing.assert_close(first, experiment.generate(trained, inputs, batch=7))
    assert not torch.allclose(first, experiment.generate(trained, inputs, seed=1))


def test_intervals_are_over_sources_where_there_are_enough():
    right = np.repeat([True, False], 50)
    two, ten = np.repeat(["a", "b"], 50), np.repeat(np.arange(10), 10)
    few = experiment.accuracy(right, two)
    low, high = accuracy_interval(50, 100)
    assert few == {
        "accuracy": 50, "low": 100 * low, "high": 100 * high, "pictures": 100, "sources": 2,
        "over": "pictures",
    }  # fmt: skip
    many = experiment.accuracy(right, ten)  # half of the sources all right, half all wrong
    assert many["over"] == "sources"
    assert many["high"] - many["low"] > few["high"] - few["low"]
    assert many["low"] == pytest.approx(20, abs=6)  # binomial of ten


def test_differences_are_paired():
    right = np.arange(100) % 4 > 0
    table = pd.DataFrame({"label": 0, "source": np.repeat(np.arange(10), 10), "right": right})
    worse = table.assign(right=right & (np.arange(100) % 10 != 1))
    found = experiment.difference(table, worse)
    n_lost = (table.right & ~worse.right).sum()
    assert found["difference"] == n_lost > 0
    assert 0 <= found["low"] <= found["difference"] <= found["high"]
    same = experiment.difference(table, table)
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    with pytest.raises(ValueError, match="difference: the two runs judged different inputs"):
        experiment.difference(table, table[:50])


def test_spread_is_within_classes():
    labels = np.array([0, 0, 1, 1])
    pictures = torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None, None, None].expand(4, 1, 8, 8)
    assert experiment.spread(pictures, labels) == 0
    pictures = torch.tensor([-0.5, 0.5, 0.0, 1.0])[:, None, None, None].expand(4, 1, 8, 8)
    assert experiment.spread(pictures, labels) == pytest.approx(0.5)


def test_published_accuracies_stand_for_whole_pictures_of_a_batch():
    own = experiment.PUBLISHED["S2I"]["SA-CMGAN"][1]
    assert own == pytest.approx(100 * 54 / experiment.PUBLISHED_BATCH, abs=0.01)
    for rows in experiment.PUBLISHED.values():
        without = rows["SA-CMGAN without attention"]
        assert all(a > b for a, b in zip(rows["SA-CMGAN"], without, strict=True))


def test_the_poster_is_shown_with_the_interval_of_its_batch():
    table = experiment.published("S2I")
    own = table.loc["SA-CMGAN"]
    assert (own.low, own.high) == pytest.approx((73.6, 91.3), abs=0.1)
    assert table.loc["CMCGAN", ["low", "high"]].isna().all()
    assert "I2S" in experiment.published("I2S").index
    assert "I2S" not in experiment.published("I2S", "train").index  # not printed


def test_gammas_are_those_of_the_networks(pairs, trained):
    fresh = training.build(pairs, "S2I", SMALL)
    assert experiment.gammas(fresh) == dict.fromkeys(checkpoint.NETWORKS, 0)
    assert all(experiment.gammas(trained).values())  # three steps move them
    assert experiment.gammas(training.build(pairs, "S2I", replace(SMALL, attention=None))) == {}


def test_reach_of_known_attention():
    side, places = 6, torch.arange(36)
    even = torch.full((2, 36, 36), 1 / 36)
    assert experiment.reach(even) == pytest.approx({"frequency": 1, "time": 1})
    own = torch.eye(36)[None]
    assert experiment.reach(own) == {"frequency": 0, "time": 0}
    pooled = torch.full((2, 36, 9), 1 / 9)
    assert experiment.reach(pooled) == pytest.approx({"frequency": 1, "time": 1})
    same_row = (places[:, None] // side == places // side).float()[None] / side
    assert experiment.reach(same_row) == pytest.approx({"frequency": 0, "time": 1})


# ---------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_brings_everything_back(pairs, trained, tmp_path):
    path = tmp_path / "s2i.safetensors"
    checkpoint.save(path, trained)
    found = checkpoint.load(path, pairs)
    assert (found.direction, found.settings) == ("S2I", SMALL)
    pd.testing.assert_frame_equal(found.history, trained.history)
    inputs = pairs.sounds["test"]
    assert torch.equal(experiment.generate(found, inputs), experiment.generate(trained, inputs))
    codes, pictures = torch.randn(2, 64), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            found.discriminator(codes, pictures), trained.discriminator(codes, pictures)
        )


def test_a_damaged_or_foreign_checkpoint_is_named(pairs, trained, tmp_path):
    path = tmp_path / "s2i.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"load: .*s2i.safetensors is damaged or of other pairs"):
        checkpoint.load(path, pairs)
    checkpoint.save(path, trained)
    fewer = replace(pairs, class_names=pairs.class_names[:9])
    with pytest.raises(ValueError, match="is damaged or of other pairs"):
        checkpoint.load(path, fewer)
