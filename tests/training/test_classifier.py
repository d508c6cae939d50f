"""Training: resumed, killed and repeated runs, what decides a run, prediction, checkpoints."""

import json
import multiprocessing
import pickle
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric
from small_study import DEMO, FRONT_END, NAMES, PROFILE, STRONG, make_data, with_training
from torch.optim.swa_utils import AveragedModel

from esc_lib.config import (
    RECIPES,
    Augmentation,
    Network,
    Profile,
    Recipe,
    Stage,
)
from esc_lib.machine import distributed
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint, classifier, loop, prediction, recipes

MAKE_FABRIC = loop.make_fabric


def make_cpu_fabric(precision):
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def train(folder, profile=PROFILE, data=None):
    """Fit in float32 on the CPU, where the same operations give the same bits."""
    return classifier.fit(data or make_data(), profile, Path(folder), precision="32-true")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(loop, "make_fabric", make_cpu_fabric)


@pytest.fixture(scope="module")
def data():
    return make_data()


@dataclass
class Whole:
    """An uninterrupted run, the folder of its state, and its settings."""

    fit: classifier.Fit
    folder: Path
    profile: Profile = PROFILE


@pytest.fixture(scope="module", params=["thesis", "strong"])
def whole(request, tmp_path_factory):
    """Return an uninterrupted run of four epochs with either recipe."""
    folder = tmp_path_factory.mktemp("whole")
    profile = PROFILE if request.param == "thesis" else with_training(recipe=STRONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_fabric", make_cpu_fabric)
        return Whole(train(folder, profile), folder, profile)


@pytest.fixture(scope="module")
def thesis_run(tmp_path_factory):
    """Return an uninterrupted run of four epochs with the thesis's recipe."""
    folder = tmp_path_factory.mktemp("thesis")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_fabric", make_cpu_fabric)
        return Whole(train(folder), folder)


def last_state(folder):
    """Return what a run left behind after its last epoch, without the seconds it took."""
    (path,) = Path(folder).glob("run_*/last.pt")
    state = torch.load(path, weights_only=True)
    for row in (*state["history"], state["progress"]):
        del row["seconds"]
    return state


def assert_same_state(one, other):
    """Compare nested states bit by bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same_state(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_state(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_run(fit, folder, expected):
    assert_same_state(last_state(folder), last_state(expected.folder))
    assert_same_state(fit.model.state_dict(), expected.fit.model.state_dict())
    pd.testing.assert_frame_equal(
        fit.history.drop(columns="seconds"), expected.fit.history.drop(columns="seconds"),
        check_exact=True,
    )  # fmt: skip
    assert fit.kept_epoch == expected.fit.kept_epoch


# -------------------------------------------------------------------------------- interruption


def test_a_run_stopped_and_resumed_equals_one_that_was_not(thesis_run, tmp_path):
    first = train(tmp_path, with_training(epochs=2))
    assert len(first.history) == 2
    assert_same_run(train(tmp_path), tmp_path, thesis_run)
    # the comparison reaches the schedule: the learning rate fell after an epoch without progress
    assert thesis_run.fit.history.learning_rate.nunique() > 1


@pytest.mark.parametrize("save_interval_s", [1e9, 0.0])
def test_a_run_interrupted_within_an_epoch_equals_one_that_was_not(
    whole, tmp_path, monkeypatch, save_interval_s
):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 8:  # three batches an epoch: the second of the third
            raise KeyboardInterrupt
        return mixup(*arguments)

    mixup = classifier.augment.mixup
    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", save_interval_s)
    with monkeypatch.context() as patch:
        patch.setattr(classifier.augment, "mixup", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, whole.profile)
    assert steps_saved(tmp_path) == (7 if save_interval_s == 0 else 0)
    assert_same_run(train(tmp_path, whole.profile), tmp_path, whole)


def train_saving_each_step(folder, profile):
    """Train in a process of its own, so that it can be killed."""
    torch.set_num_threads(1)
    loop.make_fabric, loop.SAVE_INTERVAL_S = make_cpu_fabric, 0.0
    train(folder, profile)


def written(folder):
    """Return when a run's state was last written; reading it at every look would take long."""
    return [path.stat().st_mtime_ns for path in folder.glob("run_*/last.pt")]


def steps_saved(folder):
    """Return how many steps of three an epoch a run has saved."""
    if not list(folder.glob("run_*/last.pt")):
        return 0
    state = last_state(folder)
    return 3 * len(state["history"]) + state["progress"]["step"]


@pytest.mark.parametrize("name", ["thesis", "strong"])
def test_a_run_killed_ten_times_equals_one_that_was_not(name, tmp_path):
    profile = {"thesis": PROFILE, "strong": with_training(recipe=STRONG)}[name]
    profile = with_training(profile, epochs=60)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["esc_lib.training.classifier", "librosa.filters"])  # loaded once
    rng = np.random.default_rng()
    killed, n_saved = 0, [0]
    for _ in range(10):
        process = server.Process(
            target=train_saving_each_step, args=(tmp_path / "killed", profile), daemon=True
        )
        process.start()
        deadline, seen = time.monotonic() + 60, None
        while (now := written(tmp_path / "killed")) == seen or (
            steps_saved(tmp_path / "killed") <= n_saved[-1]
        ):
            assert process.is_alive() and time.monotonic() < deadline, "no step was saved"
            seen = now
            time.sleep(0.005)
        process.join(rng.uniform(0, 0.1))
        killed += process.is_alive()
        process.kill()  # SIGKILL: no handler runs, whatever is being written stays half
        process.join()
        n_saved.append(steps_saved(tmp_path / "killed"))
    assert killed == 10 and n_saved == sorted(set(n_saved))
    expected = Whole(train(tmp_path / "whole", profile), tmp_path / "whole", profile)
    assert_same_run(train(tmp_path / "killed", profile), tmp_path / "killed", expected)


def test_a_finished_run_is_not_trained_again_and_can_be_made_longer(
    thesis_run, tmp_path, monkeypatch
):
    train(tmp_path, with_training(epochs=1))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epoch", lambda *_: pytest.fail("trained again"))
        assert len(train(tmp_path, with_training(epochs=1)).history) == 1
    assert_same_run(train(tmp_path), tmp_path, thesis_run)


def test_a_run_that_cannot_be_made_longer_keeps_its_networks_only(tmp_path, monkeypatch):
    profile = with_training(recipe=STRONG, epochs=1)
    first = train(tmp_path, profile)
    assert set(last_state(tmp_path)["parts"]) == {"model", "average"}
    monkeypatch.setattr(loop, "_train_epoch", lambda *_: pytest.fail("trained again"))
    assert_same_state(train(tmp_path, profile).model.state_dict(), first.model.state_dict())


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_state(
    thesis_run, tmp_path, monkeypatch
):
    train(tmp_path, with_training(epochs=1))
    (path,) = tmp_path.glob("run_*/last.pt")
    before = path.read_bytes()
    features = LogMel.features
    with monkeypatch.context() as patch:
        patch.setattr(LogMel, "features", lambda *arguments: features(*arguments) * torch.nan)
        stopped = "train: train_loss is nan at epoch 2, step 1; lower the learning rate"
        with pytest.raises(FloatingPointError, match=stopped):
            train(tmp_path)
    assert path.read_bytes() == before
    assert_same_run(train(tmp_path), tmp_path, thesis_run)  # and the run can go on


# --------------------------------------------------------------------------- several processes


def without_dropout(name):
    """Return a profile without dropout, which draws its own numbers in every process."""
    profile = {"thesis": PROFILE, "strong": with_training(recipe=STRONG)}[name]
    profile = replace(profile, network=replace(profile.network, dropout=0.0))
    return with_training(profile, learning_rate=0.01)


@pytest.fixture(scope="module")
def curves_of_two(tmp_path_factory):
    """Return the histories of both recipes from one start of two processes."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "two.py"
    script.write_text(
        "import sys, torch\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[i]) for i in (0, 1, 2)]!r}\n"
        "import test_classifier as t\n"
        "torch.set_num_threads(1)\n"
        "for name in ('thesis', 'strong'):\n"
        f"    fit = t.train({str(folder)!r} + '/' + name, t.without_dropout(name))\n"
        "    assert torch.distributed.get_world_size() == 2\n"
        "    assert torch.distributed.get_backend() == 'gloo'\n"
        "    if torch.distributed.get_rank() == 0:\n"
        f"        fit.history.to_csv({str(folder)!r} + f'/{{name}}.csv', index=False)\n"
    )
    fabric = Path(sys.executable).with_name("fabric")
    with socket.create_server(("127.0.0.1", 0)) as free:  # not the one of another worker's tests
        port = free.getsockname()[1]
    command = [fabric, "run", "--accelerator=cpu", "--devices=2", "--strategy=ddp"]
    command += [f"--main-port={port}", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("thesis", "strong")}


@pytest.mark.parametrize("name", ["thesis", "strong"])
def test_two_processes_follow_the_curve_of_one(name, curves_of_two, tmp_path):
    one, two = train(tmp_path / "one", without_dropout(name)), curves_of_two[name]
    # rounding moves a maximum of a pool now and then, and few channels feel it: 1 % was seen
    columns = ["train_loss", "validation_loss", "learning_rate"]
    tolerance = {"train_loss": 0.02, "validation_loss": 0.005, "learning_rate": 1e-6}
    drift = (two[columns] / one.history[columns] - 1).abs().max()
    assert (drift < pd.Series(tolerance)).all(), drift
    other = train(tmp_path / "other", with_training(without_dropout(name), seed=1)).history
    assert (other.train_loss / one.history.train_loss - 1).abs().max() > 2 * drift.train_loss
    assert np.ptp(one.history.train_loss) > 0.02  # a curve, not a constant


def test_batch_normalisation_over_processes_equals_that_of_one_process():
    """Within one process group of one, ours is PyTorch's own; two are compared above."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0,
                                         world_size=1)  # fmt: skip
    try:
        maps = torch.randn(6, 5, 4, 3, dtype=torch.float32, requires_grad=True)
        ours, reference = (kind(5) for kind in (distributed.SyncBatchNorm2d, torch.nn.BatchNorm2d))
        for norm in (ours, reference):
            torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
        expected = reference(maps)
        (gradient,) = torch.autograd.grad(expected.sin().sum(), maps)
        result = ours(maps)
        (own_gradient,) = torch.autograd.grad(result.sin().sum(), maps)
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(own_gradient, gradient, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(dict(ours.state_dict()), dict(reference.state_dict()))
        torch.testing.assert_close(ours.eval()(maps), reference.eval()(maps))
    finally:
        torch.distributed.destroy_process_group()


# --------------------------------------------------------------------------- what decides a run


def test_same_seed_gives_the_same_run_and_another_seed_another(whole, tmp_path):
    assert_same_run(train(tmp_path / "same", whole.profile), tmp_path / "same", whole)
    other = train(tmp_path / "other", with_training(whole.profile, seed=1))
    assert (other.history.train_loss != whole.fit.history.train_loss).all()


def test_state_of_the_generator_before_does_not_matter(whole, tmp_path):
    torch.manual_seed(99)
    torch.rand(7)
    assert_same_run(train(tmp_path, whole.profile), tmp_path, whole)


def identity(data, profile=PROFILE, precision="32-true"):
    return classifier.run_identity(data, profile, precision)


@pytest.mark.parametrize(
    "profile",
    [
        with_training(seed=1),
        with_training(learning_rate=2e-3),
        with_training(batch_size=16),
        with_training(plateau_patience=1),
        replace(PROFILE, front_end=replace(FRONT_END, top_db=60.0)),
        replace(PROFILE, network=replace(PROFILE.network, hidden=32)),
        with_training(augmentation=Augmentation(snr_db=10.0)),
    ],
)
def test_other_settings_get_another_identity(data, profile):
    assert identity(data, profile) != identity(data)


def test_precision_and_split_are_part_of_the_identity(data):
    assert identity(data, precision="bf16-mixed") != identity(data)
    clips = data.clips.copy()
    clips.loc[[0, 30], "part"] = clips.loc[[30, 0], "part"].to_numpy()
    assert identity(replace(data, clips=clips)) != identity(data)


def test_labels_are_part_of_the_identity(data):
    clips = data.clips.assign(label=3 - data.clips.label)
    assert identity(replace(data, clips=clips)) != identity(data)


def test_sounds_are_part_of_the_identity(data):
    # the same file names, as after a new version of the procedural clips
    assert identity(replace(make_data(seed=1), clips=data.clips)) != identity(data)


@pytest.mark.parametrize(
    "profile",
    [
        with_training(epochs=99),
        replace(PROFILE, dictionaries=replace(PROFILE.dictionaries, smoothness=1.0)),
    ],
)
def test_epochs_and_dictionaries_are_not(data, profile):
    assert identity(data, profile) == identity(data)


def test_other_settings_get_another_folder(tmp_path):
    for learning_rate in (0.01, 0.02):
        train(tmp_path, with_training(epochs=1, learning_rate=learning_rate))
    assert len(list(tmp_path.glob("run_*/last.pt"))) == 2


# --------------------------------------------------------------------------- which epoch is kept


def rows(*accuracy_and_loss):
    return [
        {"epoch": epoch, "validation_accuracy": accuracy, "validation_loss": loss}
        for epoch, (accuracy, loss) in enumerate(accuracy_and_loss, 1)
    ]


@pytest.mark.parametrize(
    ("history", "best"),
    [
        (rows((0.5, 1.0)), 1),
        (rows((0.5, 1.0), (0.7, 2.0), (0.6, 0.1)), 2),  # accuracy first
        (rows((0.7, 1.0), (0.7, 0.5), (0.7, 0.9)), 2),  # of equals, the lower loss
        (rows((0.7, 1.0), (0.7, 1.0)), 1),  # of these, the earlier
    ],
)
def test_best_epoch(history, best):
    assert recipes.kept_epoch(history, Recipe()) == best


def test_one_cycle_keeps_the_last_epoch():
    history = rows((0.9, 0.1), (0.5, 1.0))
    assert recipes.kept_epoch(history, RECIPES["strong"]) == 2


def test_the_running_mean_gives_the_first_steps_their_share():
    weight = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(weight, multi_avg_fn=recipes.running_mean(0.9), use_buffers=True)
    values = np.random.default_rng(0).standard_normal(200)
    expected = values[0]
    for n, value in enumerate(values):
        weight.weight.data.fill_(value)
        average.update_parameters(weight)
        if n:
            decay = min(0.9, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * value
        # float32 sums of numbers of order 1
        assert average.module.weight.item() == pytest.approx(expected, abs=1e-5)


def test_stages_share_the_epochs():
    stages = (Stage(0.5, 16), Stage(0.3, 24), Stage(0.2))
    profile = with_training(epochs=10, stages=stages)
    sizes = [recipes.stage_of(epoch, profile).crop_frames for epoch in range(1, 11)]
    assert sizes == [16] * 5 + [24] * 3 + [0] * 2
    assert recipes.stage_of(1, with_training(epochs=1, stages=stages)) == stages[-1]


def test_a_run_stops_when_patience_is_exhausted(tmp_path):
    fit = train(tmp_path, with_training(epochs=60, stop_patience=2, learning_rate=0.0))
    assert len(fit.history) == fit.kept_epoch + 2 < 60
    again = train(tmp_path, with_training(epochs=90, stop_patience=2, learning_rate=0.0))
    assert len(again.history) == len(fit.history)


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path, monkeypatch):
    measured = iter([(1.0, 0.3), (0.5, 0.9), (0.6, 0.5), (0.7, 0.5)] * 2)  # loss, accuracy
    monkeypatch.setattr(classifier, "_loss_and_accuracy", lambda *_: next(measured))
    fit = train(tmp_path / "four")
    assert fit.kept_epoch == 2
    last = last_state(tmp_path / "four")["parts"]["model"]
    assert not torch.equal(fit.model.fc1.weight, last["fc1.weight"])
    two = train(tmp_path / "two", with_training(epochs=2))
    assert_same_state(dict(fit.model.state_dict()), dict(two.model.state_dict()))
    assert not fit.model.training and next(fit.model.parameters()).device.type == "cpu"


def test_validation_in_the_history_is_that_of_the_kept_weights(whole, data):
    fit = whole.fit
    validation = data.split.validation
    logits = prediction.predict(fit.model, LogMel(FRONT_END), data, validation)
    row = fit.history.set_index("epoch").loc[fit.kept_epoch]
    accuracy = (logits.argmax(1) == data.labels[validation]).float().mean().item()
    assert accuracy == row.validation_accuracy
    loss = torch.nn.functional.cross_entropy(logits, data.labels[validation]).item()
    assert loss == pytest.approx(row.validation_loss, rel=1e-4)


def test_history_is_complete(whole):
    history = whole.fit.history
    assert list(history) == [
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
        "learning_rate", "seconds",
    ]  # fmt: skip
    assert history.epoch.tolist() == [1, 2, 3, 4]
    assert np.isfinite(history.to_numpy()).all()
    assert history[["train_accuracy", "validation_accuracy"]].to_numpy().max() <= 1


def test_it_learns_tones(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_fabric", MAKE_FABRIC)
    profile = with_training(epochs=30, plateau_patience=4, learning_rate=0.01)
    fit = classifier.fit(data, profile, tmp_path)  # on this machine's own device and precision
    test = data.split.test
    logits = prediction.predict(fit.model, LogMel(FRONT_END), data, test)
    accuracy = (logits.argmax(1) == data.labels[test]).float().mean()
    assert accuracy >= 0.75  # chance is 0.25
    assert fit.history.train_loss.iloc[-1] < 0.8 * fit.history.train_loss.iloc[0]


def test_training_does_not_touch_the_data(whole, data):
    fresh = make_data()
    assert torch.equal(data.waveforms, fresh.waveforms)
    pd.testing.assert_frame_equal(data.clips, fresh.clips)


# ---------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize("is_training", [False, True])
def test_prediction_equals_that_of_single_clips_and_leaves_the_mode(data, is_training):
    front_end = LogMel(FRONT_END)
    model = classifier.initial_model(PROFILE, 4)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # sets the normalisation: else the deep maps all but vanish
        model(front_end.features(*data.batch(range(40))))
    model.train(is_training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    order = np.random.default_rng(0).permutation(40)  # more than one batch
    logits = prediction.predict(model, front_end, data, order)
    assert model.training == is_training
    assert_same_state(dict(model.state_dict()), before)  # nor does it move the averages
    assert logits.shape == (40, 4) and logits.dtype == torch.float32 and not logits.requires_grad
    model.eval()
    alone = torch.cat([model(front_end.features(*data.batch([row]))) for row in order])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-6)
    assert logits.std(dim=0).min() > 0.01


def test_initial_model_follows_the_seed():
    first, again, other = (
        classifier.initial_model(with_training(seed=seed), 4).state_dict() for seed in (0, 0, 1)
    )
    assert_same_state(dict(first), dict(again))
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])


# --------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def saved(thesis_run, tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, thesis_run.fit.model, PROFILE, NAMES)
    return path


def test_checkpoint_gives_back_the_same_logits(thesis_run, data, saved):
    model = checkpoint.load(saved, PROFILE, NAMES)
    assert isinstance(model, SECNN) and not model.training
    assert_same_state(dict(model.state_dict()), dict(thesis_run.fit.model.state_dict()))
    inputs = LogMel(FRONT_END).features(*data.batch(range(40)))
    logits, expected = (  # in one memory layout, as another one adds up in another order
        net.cpu().to(memory_format=torch.channels_last)(inputs).detach()
        for net in (model, thesis_run.fit.model)
    )
    assert torch.equal(logits, expected)
    assert logits.std(dim=0).max() > 1e-3  # else the comparison would say little


@pytest.mark.parametrize(
    ("profile", "names", "key"),
    [
        (replace(PROFILE, front_end=replace(FRONT_END, f_min_hz=50.0)), NAMES, "front_end"),
        (replace(PROFILE, network=Network(channels=(8, 8, 8, 8, 8))), NAMES, "network"),
        (PROFILE, NAMES[::-1], "class_names"),
        (PROFILE, NAMES[:3], "class_names"),
        (DEMO, NAMES, "front_end"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(saved, profile, names, key):
    message = rf"load: checkpoint .*model.safetensors was made with another {key} than profile"
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, profile, names)


def test_checkpoint_may_be_used_under_other_training_settings(saved):
    assert checkpoint.load(saved, with_training(seed=5, epochs=77), NAMES)


def test_foreign_safetensors_without_settings_are_refused(thesis_run, tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"foreign.safetensors names no settings; "):
        checkpoint.load(path, PROFILE, NAMES)


def test_checkpoint_is_safetensors_and_no_pickle(thesis_run, saved):
    tensors = safetensors.torch.load_file(saved)
    assert_same_state(tensors, {name: thesis_run.fit.model.state_dict()[name] for name in tensors})
    assert set(tensors) == set(thesis_run.fit.model.state_dict())
    content = saved.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    settings = json.loads(header["__metadata__"]["settings"])
    assert settings["class_names"] == NAMES
    assert settings["network"]["channels"] == [4, 8, 8, 8, 8]
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)
    assert not content.startswith(b"PK")  # nor torch.save's zip of pickles


def test_a_failed_save_leaves_the_checkpoint_before(saved, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError("No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(saved, classifier.initial_model(PROFILE, 4), PROFILE, NAMES)
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        checkpoint.load(path, PROFILE, ["a"])


# ------------------------------------------------------------------------------- distillation


@pytest.fixture
def taught_batch():
    generator = torch.Generator().manual_seed(3)
    logits, taught = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    return logits.requires_grad_(), taught


def test_the_teacher_s_decisions_cost_nothing_and_others_something(taught_batch):
    logits, taught = taught_batch
    assert abs(recipes.distillation_loss(taught, taught, 2.0).item()) < 1e-12  # float64
    # a softmax does not see a shift
    assert abs(recipes.distillation_loss(taught + 3, taught, 2.0).item()) < 1e-12
    assert recipes.distillation_loss(logits, taught, 2.0) > 0.1


def test_distillation_loss_equals_its_formula_summed_over_the_batch(taught_batch):
    logits, taught = taught_batch
    p, q = ((x / 2.5).softmax(dim=1) for x in (taught, logits))
    expected = 2.5**2 * (p * (p / q).log()).sum()
    torch.testing.assert_close(recipes.distillation_loss(logits, taught, 2.5), expected)
    alone = (recipes.distillation_loss(logits[[i]], taught[[i]], 2.5) for i in range(6))
    torch.testing.assert_close(sum(alone), expected)


def test_the_distillation_gradient_reaches_a_limit_as_the_temperature_grows(taught_batch):
    logits, taught = taught_batch
    # equation 4 of the source, times T^2: (z - v) / classes for logits of zero mean
    difference = (logits - taught).detach()
    limit = (difference - difference.mean(dim=1, keepdim=True)) / 5
    for temperature in (1e3, 1e4):
        loss = recipes.distillation_loss(logits, taught, temperature)
        (gradient,) = torch.autograd.grad(loss, logits)
        # the next term of the expansion falls as 1 / T
        torch.testing.assert_close(gradient, limit, rtol=0, atol=6 / temperature)
