"""Named runs, comparisons between them, and the record of a study."""

import io
import json
import shutil
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from esc_lib.__main__ import main
from esc_lib.config import (
    PROFILES,
    RECIPES,
    Evidence,
    FrontEnd,
    Network,
    Profile,
    Recipe,
    Stage,
    Training,
    restore,
)
from esc_lib.data.clips import Data, save_data
from esc_lib.machine.provenance import checksum_of
from esc_lib.study import record
from esc_lib.training import checkpoint, classifier, comparisons
from esc_lib.training import runs as experiments

FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=33
)
QUICK = replace(RECIPES["strong"], stages=(Stage(1.0, 32),), test_crops=2)
PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    network=Network(channels=(4, 8, 8, 8, 8), hidden=16),
    training=Training(QUICK, epochs=2),
    evidence=Evidence(folds=(1, 2), seeds=(0, 1)),
)
NAMES = ["high", "low"]


@pytest.fixture(scope="module")
def data():
    """Return 80 clips in two classes and four folds, two clips from each recording."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) // 2 % 2
    time_s = np.arange(FRONT_END.n_samples) / FRONT_END.sr
    waveforms = 9000 * np.sin(2 * np.pi * np.where(labels, 400, 2500)[:, None] * time_s)
    waveforms += rng.normal(scale=300, size=waveforms.shape)
    clips = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(80)],
            "fold": np.arange(80) // 2 // 2 % 4 + 1,
            "label": labels,
            "category": np.array(NAMES)[labels],
            "src_file": np.arange(80) // 2,
            "part": "train",
        }
    )
    n_valid = torch.full((80,), FRONT_END.n_samples)
    return Data(clips, torch.from_numpy(waveforms.astype(np.int16)), n_valid)


def write_clips(data, artifacts):
    """Write what notebook 01 hands over."""
    columns = {"target": data.clips.label, "take": "A", "path": data.clips.filename}
    (artifacts / "01_data").mkdir(parents=True)
    save_data(
        artifacts / "01_data",
        data.clips.assign(**columns),
        data.waveforms.numpy(),
        data.n_valid.numpy(),
    )
    (artifacts / "01_data" / "metrics.json").write_text("{}")


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "runs"
    experiments.run(data, PROFILE, folder)
    return folder


# ---------------------------------------------------------------------------------------- runs


def test_a_taught_network_learns_from_the_mean_of_networks_of_the_same_fold(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiments, "NARROW", Network((2, 4, 4, 4, 4), se_reduction=2, hidden=8))
    taught = experiments.variant(PROFILE, epochs=1, teachers=2, teacher_epochs=1)
    used = []
    loss = classifier.recipes.distillation_loss
    monkeypatch.setattr(
        classifier.recipes, "distillation_loss",
        lambda own, other, *rest: used.append(other) or loss(own, other, *rest),
    )  # fmt: skip
    run = experiments.run(data, taught, tmp_path)
    others = {path.name for path in tmp_path.iterdir()} - {run.name}
    assert used and len(others) == 2 and all("width2" in name for name in others)
    assert all("fold1" in name and "epochs1" in name for name in others)
    teacher = experiments.teacher_of(data, taught, tmp_path)
    features = torch.randn(3, 1, FRONT_END.n_mels, FRONT_END.n_frames)
    with torch.no_grad():
        each = [network(features) for network in teacher.networks]
        torch.testing.assert_close(teacher(features), (each[0] + each[1]) / 2)
    assert not torch.allclose(*each)
    assert experiments.record_of(run)["profile"]["training"]["teachers"] == 2
    plain = experiments.run(data, experiments.variant(PROFILE, epochs=1), tmp_path)
    assert plain != run
    monkeypatch.setattr(classifier, "fit", lambda *_, **__: pytest.fail("done again"))
    assert experiments.run(data, taught, tmp_path) == run


def test_the_state_is_kept_until_the_record_stands(data, runs, tmp_path, monkeypatch):
    (finished,) = runs.iterdir()
    left = {"run.json", "history.csv", "predictions.csv", "model.safetensors"}
    assert {path.name for path in finished.iterdir()} == left

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(experiments, "_finish", stop)
        experiments.run(data, PROFILE, tmp_path)
    assert [*tmp_path.glob("*/run_*/last.pt")]
    monkeypatch.setattr(classifier.loop, "_train_epoch", lambda *_: pytest.fail("trained again"))
    again = experiments.run(data, PROFILE, tmp_path)
    assert {path.name for path in again.iterdir()} == left


def test_names_tell_runs_apart():
    variants = [
        PROFILE,
        experiments.variant(PROFILE, test_fold=2),
        experiments.variant(PROFILE, seed=1),
        experiments.variant(PROFILE, recipe=Recipe()),
        experiments.variant(PROFILE, protocol="random_clips"),
        experiments.variant(PROFILE, epochs=3),
        experiments.variant(PROFILE, architecture="small_ast"),
        experiments.variant(PROFILE, network=Network(channels=(2, 8, 8, 8, 8))),
        experiments.variant(PROFILE, network=Network((2, 8, 8, 8, 8), se_reduction=0)),
    ]
    names = [experiments.name_of(variant) for variant in variants]
    assert len(set(names)) == len(names)
    assert all(name == "".join(name.split()) for name in names)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_planned_runs_of_one_name_are_the_same_run(profile):
    planned = comparisons.plan(profile)
    assert {item.group for item in planned} == {"folds", "protocols", "ablation", "peers"}
    by_name = {}
    for item in planned:
        by_name.setdefault(experiments.name_of(item.profile), []).append(item.profile)
    assert all(len(set(profiles)) == 1 for profiles in by_name.values())


@pytest.mark.parametrize("present", [{1, 2, 3}, set(range(10))])
def test_all_folds_are_those_that_there_are(present):
    profile = PROFILES["esc10"]
    assert profile.evidence.folds == comparisons.EVERY and profile.evidence.ablation_folds == (1, 2)
    planned = comparisons.plan(profile, present)
    folds = {item.profile.test_fold for item in planned if item.group == "folds"}
    assert folds == present
    assert {i.profile.test_fold for i in planned if i.group == "ablation"} == {1, 2} & present


def test_a_run_leaves_predictions_history_record_and_weights(runs, data):
    (run,) = runs.iterdir()
    predictions = pd.read_csv(run / "predictions.csv")
    assert set(predictions.part) == {"validation", "test"}
    test = predictions[predictions.part == "test"]
    assert set(test.fold) == {1} and len(test) == 20
    assert set(predictions[predictions.part == "validation"].fold) <= {2, 3, 4}
    probabilities = predictions[["p_high", "p_low"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert (probabilities.argmax(1) == predictions.predicted).all()
    assert len(pd.read_csv(run / "history.csv")) == 2
    found = experiments.record_of(run)
    assert found["profile"]["training"]["recipe"]["name"] == "strong" and found["kept_epoch"] == 2
    model = checkpoint.load(run / "model.safetensors", PROFILE, NAMES)
    again = experiments.predict(model, data.with_split(_split_of(data)), PROFILE)
    pd.testing.assert_frame_equal(
        again.reset_index(drop=True),
        predictions,
        check_dtype=False,
        atol=2e-6,
    )


def _split_of(data):
    return experiments.split_for(data, PROFILE).split


def test_without_validation_clips_all_but_the_test_trains(data, tmp_path):
    profile = experiments.variant(PROFILE, protocol="no_validation", epochs=1)
    folder = experiments.run(data, profile, tmp_path)
    history = pd.read_csv(folder / "history.csv")
    assert history.validation_accuracy.isna().all() and history.train_loss.notna().all()
    predictions = pd.read_csv(folder / "predictions.csv")
    assert set(predictions.part) == {"test"} and len(predictions) == (data.clips.fold == 1).sum()


def test_a_recipe_that_needs_validation_clips_is_refused_without(data, tmp_path):
    recipe = replace(QUICK, schedule="plateau", name="thesis")
    profile = experiments.variant(PROFILE, protocol="no_validation", recipe=recipe)
    with pytest.raises(ValueError, match="'thesis' keeps the epoch .* the split has none"):
        experiments.run(data, profile, tmp_path)


def test_a_finished_run_is_not_done_again_unless_its_settings_change(runs, data, monkeypatch):
    monkeypatch.setattr(experiments.classifier, "fit", lambda *_, **__: pytest.fail("trained"))
    assert experiments.run(data, PROFILE, runs).is_dir()
    changed = replace(QUICK, learning_rate=0.5)  # the name is the same
    with pytest.raises(pytest.fail.Exception, match="trained"):
        experiments.run(data, experiments.variant(PROFILE, recipe=changed), runs)


def test_a_recorded_run_is_adopted_without_training(runs, data, tmp_path, monkeypatch):
    (run,) = runs.iterdir()
    model = checkpoint.load(run / "model.safetensors", PROFILE, NAMES)
    kept = tmp_path / "results" / "runs" / run.name
    kept.mkdir(parents=True)
    for name in record.RUN_FILES:
        (kept / name).write_bytes((run / name).read_bytes())
    checkpoint.save(tmp_path / "results" / "model.safetensors", model.half(), PROFILE, NAMES)
    monkeypatch.setattr(experiments.classifier, "fit", lambda *_: pytest.fail("trained"))
    adopted = experiments.adopt(tmp_path / "results", data, PROFILE, tmp_path / "runs")
    one, other = (pd.read_csv(folder / "predictions.csv") for folder in (adopted, run))
    assert (one.filename == other.filename).all()
    np.testing.assert_allclose(one.p_high, other.p_high, atol=0.01)  # half precision
    assert experiments.record_of(adopted)["adopted_from"] == "results"
    (kept / "history.csv").unlink()
    with pytest.raises(FileNotFoundError, match="history.csv is missing; give the folder of a rec"):
        experiments.adopt(tmp_path / "results", data, PROFILE, tmp_path / "runs")


def test_narrow_networks_are_kept_in_a_record_and_taken_from_it(
    runs, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(record, "NARROW", PROFILE.network)
    for module in ("esc_lib.__main__", "esc_lib.study.record"):
        monkeypatch.setattr(f"{module}.get_profile", lambda _: PROFILE)
    monkeypatch.setattr("esc_lib.__main__.ROOT", tmp_path)
    write_clips(data, tmp_path / "artifacts")
    shutil.copytree(runs, tmp_path / "artifacts" / "runs")
    assert main(["keep", "--artifacts", str(tmp_path / "artifacts")]) == 0
    (kept,) = (tmp_path / "results" / "demo" / "runs").iterdir()
    assert {path.name for path in kept.iterdir()} == {*record.RUN_FILES, "model.safetensors"}
    shutil.rmtree(tmp_path / "artifacts" / "runs")
    monkeypatch.setattr(experiments.classifier, "fit", lambda *_: pytest.fail("trained"))
    command = ["train", "--artifacts", str(tmp_path / "artifacts"), "--folds", "1"]
    assert main([*command, "--start", str(tmp_path / "results" / "demo")]) == 0
    (adopted,) = (tmp_path / "artifacts" / "runs").iterdir()
    assert str(adopted) in capsys.readouterr().out
    assert experiments.record_of(adopted)["adopted_from"] == "demo"
    before = {path: path.read_bytes() for path in kept.iterdir()}
    assert main(["keep", "--artifacts", str(tmp_path / "artifacts")]) == 0  # nothing new
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def test_test_clips_are_collected_over_folds_here_and_in_a_record(runs, data, tmp_path):
    (run,) = runs.iterdir()
    recorded = tmp_path / "recorded" / "runs" / "of another fold"
    shutil.copytree(run, recorded)
    record_of_two = json.loads((recorded / "run.json").read_text())
    record_of_two["profile"]["test_fold"] = 2
    (recorded / "run.json").write_text(json.dumps(record_of_two))
    one = experiments.judged_by(PROFILE, runs)
    assert len(one) == 20 and set(one.part) == {"test"} and set(one.fold) == {1}
    both = experiments.judged_by(PROFILE, runs, tmp_path / "recorded")
    assert len(both) == 40
    assert not len(experiments.judged_by(PROFILE, tmp_path / "nothing"))


@pytest.mark.parametrize(("change", "kept"), [
    ({"test_fold": 2}, True), ({"protocol": "no_validation", "epochs": 9}, True),
    ({"seed": 1}, False), ({"protocol": "random_clips"}, False), ({"learning_rate": 1.0}, False),
])  # fmt: skip
def test_weights_are_kept_of_networks_trained_as_the_profile_trains(change, kept, monkeypatch):
    usual = PROFILES["esc50-16k"]
    narrow = experiments.variant(replace(usual, network=record.NARROW), **change)
    assert record.keeps_weights(narrow) == kept
    assert not record.keeps_weights(experiments.variant(usual, **change))


def test_recorded_runs_are_found_by_settings_and_sound_whatever_they_are_called(runs, data):
    (run,) = runs.iterdir()
    record = runs.parent / "record"
    shutil.copytree(run, record / "runs" / "an older name")
    found = record / "runs" / "an older name"
    checksum = checksum_of(data.waveforms)
    assert experiments.find_recorded(PROFILE, record, checksum) == found
    renamed = experiments.variant(PROFILE, recipe=replace(QUICK, name="a better name"))
    assert experiments.find_recorded(renamed, record) == found
    others = [
        experiments.variant(PROFILE, seed=1),
        experiments.variant(PROFILE, recipe=replace(QUICK, learning_rate=0.5)),
        replace(PROFILE, front_end=replace(PROFILE.front_end, top_db=60.0)),
    ]
    assert not any(experiments.find_recorded(other, record) for other in others)
    assert experiments.find_recorded(PROFILE, record, checksum_of(data.waveforms // 2)) is None
    shutil.rmtree(record)


def test_settings_younger_than_a_record_have_their_defaults():
    saved = PROFILES["esc50"].as_dict()
    del saved["training"]["recipe"]["augmentation"]["transform_probability"]
    saved["of another time"] = 1
    assert restore(Profile, saved) == PROFILES["esc50"]


# --------------------------------------------------------------------------------- comparisons


def test_ablation_changes_one_thing_at_a_time():
    base, *others = comparisons.ablated(RECIPES["strong"])
    assert base == RECIPES["strong"]
    assert len({recipe.name for recipe in others}) == len(others) >= 8
    for recipe in others:
        assert replace(recipe, name="strong") != base


def test_runs_are_carried_out_once_and_read_from_a_record(runs, data, monkeypatch):
    planned = [comparisons.Planned("folds", "strong", PROFILE)]
    table = comparisons.carry_out(planned, data, runs)
    assert len(table) == 40 - 20 + len(pd.read_csv(next(runs.glob("*/predictions.csv")))) - 20
    monkeypatch.setattr(experiments, "run", lambda *_: pytest.fail("done again"))
    again = comparisons.carry_out(planned, data, runs.parent / "elsewhere", recorded=runs.parent)
    pd.testing.assert_frame_equal(table, again)


# ------------------------------------------------------------------------------- command line


def test_the_command_line_trains_the_chosen_folds(data, tmp_path, monkeypatch, capsys):
    write_clips(data, tmp_path)
    monkeypatch.setattr("esc_lib.__main__.get_profile", lambda _: PROFILE)
    monkeypatch.setattr("esc_lib.__main__.RECIPES", {"strong": QUICK})
    arguments = ["train", "--artifacts", str(tmp_path), "--folds", "2", "3", "--epochs", "1"]
    assert main(arguments) == 0
    folders = [line.split("/")[-1] for line in capsys.readouterr().out.splitlines()]
    assert [("fold2" in name, "fold3" in name) for name in folders] == [(1, 0), (0, 1)]
    assert main([*arguments, "--folds", "9"]) == 1
    assert "test_fold=9, expected one of [1, 2, 3, 4]" in capsys.readouterr().err


# ----------------------------------------------------------------------------------- the record


def test_a_recorded_notebook_names_no_folder_of_the_machine(tmp_path):
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"input_path": "/home/x"}})
    notebook.cells = [
        nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("a = '/home/x'", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("a", metadata={"papermill": {"duration": 1}}),
    ]
    nbformat.write(notebook, tmp_path / "01.ipynb")
    found = record.without_machine(tmp_path / "01.ipynb")
    assert [cell.source for cell in found.cells] == ["a = 1", "a"]
    assert "home" not in json.dumps(found) and "papermill" not in json.dumps(found)


def test_a_recorded_notebook_holds_no_progress_bars(tmp_path):
    bar = nbformat.v4.new_output("stream", name="stderr", text="100%")
    said = nbformat.v4.new_output("stream", name="stdout", text="done")
    hidden = {"tags": ["remove-stderr"]}
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("a", outputs=[bar, said], metadata=hidden),
            nbformat.v4.new_code_cell("b", outputs=[bar]),
        ]
    )
    nbformat.write(notebook, tmp_path / "01.ipynb")
    found = record.without_machine(tmp_path / "01.ipynb")
    assert [[each.name for each in cell.outputs] for cell in found.cells] == [
        ["stdout"],
        ["stderr"],
    ]


def drawn_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_figure_in_the_record_is_smaller_and_looks_the_same():
    ramp = np.random.default_rng(0).normal(128, 40, (200, 300)).clip(0, 255).astype(np.uint8)
    before = drawn_png(np.stack([ramp, 255 - ramp, ramp // 2], axis=2))
    after = record.light_figure(before)
    assert len(after) < 0.6 * len(before)
    first, second = (Image.open(io.BytesIO(png)).convert("RGB") for png in (before, after))
    change = np.abs(np.asarray(first, int) - np.asarray(second, int))
    assert np.percentile(change, 99) <= record.MAX_CHANGE


def test_a_figure_of_too_many_colours_is_recorded_as_it_is():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert record.light_figure(drawn_png(noise)) == drawn_png(noise)


def test_a_record_with_a_large_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(5_000_000))
    record.check_sizes(tmp_path)
    (tmp_path / "table.csv").write_bytes(bytes(5_000_000))
    with pytest.raises(ValueError, match=r"table.csv has 5.0 MB, the limit is 4 MB"):
        record.check_sizes(tmp_path)


def test_a_record_keeps_the_runs_it_started_from(tmp_path):
    def run(folder, name, **content):
        (tmp_path / folder / name).mkdir(parents=True)
        known = {"profile": {}, "identity": "", "waveforms_sha256": ""}
        (tmp_path / folder / name / "run.json").write_text(json.dumps(known | content))

    run("recorded", "adopted here")
    run("recorded", "not done here")
    run("recorded", "done anew")
    run("own", "adopted here", adopted_from="recorded")
    run("own", "done anew")
    run("own", "new")
    (tmp_path / "own" / "unfinished").mkdir()
    found = record.finished_runs(tmp_path / "own", tmp_path / "recorded")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "recorded/adopted here", "own/done anew", "own/new", "recorded/not done here",
    ]  # fmt: skip
    assert record.finished_runs(tmp_path / "own", tmp_path / "nothing")[0].name == "adopted here"


def test_single_pages_are_kept_and_the_numbers_of_others_stay(tmp_path):
    def write(path, **values):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    write(tmp_path / "record" / "metrics.json", old={"notebook": "17_x"}, kept={"notebook": "16_y"})
    write(tmp_path / "artifacts" / "17_x" / "metrics.json", new={"notebook": "17_x"})
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "17_x.ipynb")
    record.keep_pages(tmp_path / "artifacts", [tmp_path / "17_x.ipynb"], tmp_path / "record")
    assert list(json.loads((tmp_path / "record" / "metrics.json").read_text())) == ["kept", "new"]
    assert (tmp_path / "record" / "notebooks" / "17_x.ipynb").is_file()


def test_a_record_keeps_the_tables_it_started_from(tmp_path):
    one, two = "explanations/fold1/scores.csv.gz", "explanations/fold2/scores.csv.gz"
    other = "shortcuts/fold1.csv"
    given = (f"recorded/{one}", f"recorded/{two}", f"own/{two}", f"own/{other}",
             "own/explanations/fold2/dictionaries.pt", "own/runs/fold1/history.csv")  # fmt: skip
    for path in given:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    found = record.measured_tables(tmp_path / "own", tmp_path / "recorded")
    assert {place: path.read_text() for place, path in found.items()} == {
        one: f"recorded/{one}",
        two: f"own/{two}",
        other: f"own/{other}",
    }
