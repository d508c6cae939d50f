"""From notebook to book: metrics and glue."""

import json
import math

import numpy as np
import pytest

from esc_lib.study import metrics as report
from esc_lib.study.metrics import Metric

GLUE = "application/papermill.record/text/plain"  # what myst-nb looks for


@pytest.fixture
def shown(monkeypatch):
    """Collect what `publish` displays."""
    calls = []
    monkeypatch.setattr(report, "display", lambda data, **options: calls.append((data, options)))
    return calls


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "03_training").mkdir()
    return tmp_path / "03_training"


# ------------------------------------------------------------------------------------- publish


def test_publish_writes_one_record_per_metric(folder, shown):
    report.publish(
        folder,
        {
            "accuracy": Metric(81.25, "%", 80, (71.3, 88.4)),
            "clips": Metric(400),
            "layer": "conv_block4",
        },
        "03_training",
    )
    assert json.loads((folder / "metrics.json").read_text()) == {
        "accuracy": {
            "value": 81.25, "unit": "%", "n": 80, "interval": [71.3, 88.4],
            "notebook": "03_training",
        },
        "accuracy_low": {
            "value": 71.3, "unit": "%", "n": None, "interval": None, "notebook": "03_training",
        },
        "accuracy_high": {
            "value": 88.4, "unit": "%", "n": None, "interval": None, "notebook": "03_training",
        },
        "clips": {
            "value": 400, "unit": "", "n": None, "interval": None, "notebook": "03_training",
        },
        "layer": {
            "value": "conv_block4", "unit": "", "n": None, "interval": None,
            "notebook": "03_training",
        },
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]


def test_publish_glues_every_value_and_unit_as_plain_text(folder, shown):
    metrics = {"accuracy": Metric(81.25, "%"), "clips": Metric(400), "layer": Metric("conv_block4")}
    report.publish(folder, metrics, "03_training")
    texts = {"accuracy": "81.25", "accuracy_unit": "%", "clips": "400", "layer": "conv_block4"}
    assert [data for data, _ in shown] == [{GLUE: text} for text in texts.values()]
    for (_, options), name in zip(shown, texts, strict=True):
        assert options == {
            "raw": True,
            "metadata": {
                "scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}
            },
        }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(0.5), "0.5"),
        (np.float32(0.25), "0.25"),
        (np.int64(7), "7"),
        (np.int32(-3), "-3"),
        (np.str_("hum"), "hum"),
    ],
    ids=["float64", "float32", "int64", "int32", "str"],
)
def test_numpy_scalars_become_plain_values(folder, shown, value, text):
    report.publish(folder, {"x": Metric(value)}, "03_training")
    assert shown[0][0] == {GLUE: text}
    assert json.loads((folder / "metrics.json").read_text())["x"]["value"] == value.item()


def test_numpy_counts_and_intervals_become_plain_values(folder, shown):
    interval = (np.float32(0.25), np.float64(0.75))
    report.publish(folder, {"x": Metric(0.5, n=np.int64(5), interval=interval)}, "03_training")
    record = json.loads((folder / "metrics.json").read_text())["x"]
    assert (record["n"], record["interval"]) == (5, [0.25, 0.75])


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("nan")]
)
def test_values_that_are_not_finite_are_refused_and_nothing_is_written(folder, shown, value):
    metrics = {"good": Metric(1.0), "bad": Metric(value)}
    with pytest.raises(ValueError, match=r"publish: metric 'bad' is (nan|-?inf); nothing was"):
        report.publish(folder, metrics, "03_training")
    assert not list(folder.iterdir()) and not shown


def test_intervals_that_are_not_finite_are_refused_too(folder, shown):
    # NaN is no JSON: other readers of metrics.json would stop at it
    with pytest.raises(ValueError, match="publish: metric 'bad_high' is nan"):
        report.publish(folder, {"bad": Metric(1.0, interval=(0.5, math.nan))}, "03_training")
    assert not list(folder.iterdir()) and not shown


def test_a_refused_publication_leaves_the_one_before(folder, shown):
    report.publish(folder, {"x": Metric(1)}, "03_training")
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match="nothing was written"):
        report.publish(folder, {"x": Metric(math.nan)}, "03_training")
    assert (folder / "metrics.json").read_bytes() == before
