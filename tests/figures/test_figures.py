"""Every figure function: opaque white, labelled, never shown, and its data left alone."""

import copy
import dataclasses
import importlib
import inspect
import pkgutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from esc_lib import companions, figures
from esc_lib.companions.transformer.attention import PatchGrid
from esc_lib.config import PROFILES
from esc_lib.evaluation import calibration, decisions
from esc_lib.explain import scores
from esc_lib.figures import style
from esc_lib.sound.grid import Grid

FRONT_END = PROFILES["demo"].front_end
MEL, FRAMES = FRONT_END.n_mels, FRONT_END.n_frames
RNG = np.random.default_rng(0)
NAMES = ["hum_with_hiss", "bell", "crackle"]
LAYERS = [f"conv_block{i}" for i in range(1, 6)]
MODELS = ("LinearNoBiasSoftplus", "MelConstrainedLinear", "MelBasisTransform")


def db(*shape):
    return RNG.uniform(-80, 0, shape)


def magnitude(*shape):
    return RNG.random(shape)


CLIPS = pd.DataFrame(
    {
        "category": np.repeat(NAMES, 10),
        "label": np.repeat(np.arange(3), 10),
        "fold": np.tile([1, 2, 3, 4, 5], 6),
        "part": ["train"] * 18 + ["validation"] * 6 + ["test"] * 6,
    }
)
VERIFICATION = pd.DataFrame(
    {
        "duration_s": [3.0] * 28 + [2.2, 4.2],
        "peak_db": RNG.uniform(-12, 0, 30),
        "rms_db": [-np.inf, *RNG.uniform(-40, -20, 29)],
    }
)
HISTORY = pd.DataFrame(
    {
        "epoch": np.arange(1, 6),
        **{f"{part}_loss": magnitude(5) for part in ("train", "validation")},
        **{f"{part}_accuracy": magnitude(5) for part in ("train", "validation")},
        "learning_rate": [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4],
    }
)
COMPARED = pd.DataFrame(  # a layer against its controls
    {"value": 0.5, "low": 0.4, "high": 0.6, "others": 0.3, "least": [0.1, 0.2, 0.1, 0.2, 0.1],
     "most": 0.35, "difference": 0.2, "difference_low": 0.1, "difference_high": 0.3}, LAYERS
)  # fmt: skip
COMPONENTS = pd.DataFrame(
    {"parameters": [10, 20, 70], "multiply_adds": [5, 60, 35], "output_mb": [7.0, 2.0, 1.0]},
    index=["conv_block1", "SE gates", "fc layers"],
)
GATES = {f"se{i}": (magnitude(8), magnitude(8), magnitude(8)) for i in range(1, 5)}
TRUE = np.repeat([0, 1, 2], 10)
PROBABILITIES = RNG.dirichlet(np.ones(3), 30)
GUESSED = PROBABILITIES.argmax(axis=1)
SCORES = decisions.per_class(TRUE, GUESSED, NAMES)
PAIRS = decisions.confused_pairs(TRUE, GUESSED, np.arange(30), NAMES)
CURVE = decisions.roc(TRUE, PROBABILITIES, np.ones((2, 30)))
RELIABILITY = calibration.reliability(PROBABILITIES.max(axis=1), GUESSED == TRUE)
FORCED = pd.DataFrame(
    {"difference": [-3.0, 0.5], "low": [-6.0, -2.0], "high": [0.0, 3.0], "nll_difference": [7, 0.1],
     "nll_low": [2, -0.1], "nll_high": [21, 0.3]}, index=["all, open", "se1, mean"]
)  # fmt: skip
EMBEDDED = pd.DataFrame(
    {"category": np.repeat(NAMES, 10), "group": np.repeat(NAMES, 10), "predicted": NAMES[0]}
)
FORMS = pd.DataFrame(
    {"front_end_ms": 1.0, "clip_ms": [4.0, 2.0, 9.0], "first_quartile_ms": [3.9, 1.9, 8.0],
     "third_quartile_ms": [4.2, 2.5, 9.1], "accuracy": [90.0, 80.0, 0.0], "low": [80.0, 70.0, 0.0],
     "high": [95.0, 88.0, 9.0]},
    index=pd.MultiIndex.from_tuples(
        [("full", "PyTorch"), ("full", "ONNX"), ("narrow", "ONNX")], names=["network", "engine"]
    ),
)  # fmt: skip
WINDOWS = pd.DataFrame(
    {"start_s": np.arange(15) / 2, "end_s": 2 + np.arange(15) / 2, "ms": magnitude(15),
     **{name: magnitude(15) / 3 for name in NAMES}}
)  # fmt: skip
PARTS = pd.DataFrame(  # one class twice
    {"category": [NAMES[0], NAMES[1], NAMES[0]], "start_s": [0, 3, 6], "end_s": [3, 6, 9]}
)

ACCURACIES = pd.DataFrame(
    {"pooled": [90.0, 60.0], "low": [85.0, 50.0], "high": [94.0, 70.0], "parameters": [2e7, 4e6],
     "multiply_adds": [1.4e10, 3e8]},
    index=["strong", "thesis"],
)  # fmt: skip
JUDGED = pd.DataFrame(
    {"label": np.repeat(["strong", "thesis"], 20), "part": "test", "seed": 0,
     "fold": np.tile([1, 2], 20), "right": RNG.random(40) > 0.3}
)  # fmt: skip
DIFFERENCES = pd.DataFrame(  # the value is not the first column
    {"accuracy": [87.0, 90.5], "difference": [-3.0, 0.5], "low": [-6.0, -2.0], "high": [0.0, 3.0]},
    index=["no_masks", "mixing"],
)
MANY = pd.DataFrame(
    {"difference": 0.0, "low": -1.0, "high": 1.0}, index=[f"class_{i}" for i in range(50)]
)

# module.function: arguments; the second case of a function is the awkward one
INTERVALS = pd.DataFrame(
    {"error": [0.5, 0.7], "low": [0.4, 0.65], "high": [0.6, 0.8]}, index=["conv_block1", "hum"]
)
SMOOTHNESS = pd.DataFrame(
    {"train": [0.5, 0.52], "validation": [0.6, 0.58], "step": [0.9, 0.4]}, index=[0.0, 0.01]
)
SOURCE_NAMES = [f"source_{i}" for i in range(12)]
TEMPLATES = pd.DataFrame(magnitude(MEL, 12), columns=SOURCE_NAMES)
MATCHES = pd.DataFrame({"atom": range(12), "cosine": [0.5] * 12}, index=SOURCE_NAMES)
SCORED = {
    condition: pd.DataFrame(
        RNG.random((len(methods), 6)),
        index=methods,
        columns=pd.MultiIndex.from_product([["AI", "FF"], ["mean", "low", "high"]]),
    )
    for condition, methods in (("clean", ["ours", "theirs"]), ("mixed", ["theirs", "oracle"]))
}
GRID = PatchGrid(5, 18, 16, 10, FRONT_END)  # 64 x 188
AMONG = RNG.dirichlet(np.ones(90), (8, 8, 90))
PER_HEAD = pd.DataFrame(
    {"layer": np.repeat(np.arange(1, 9), 8), "head": np.tile(np.arange(1, 9), 8),
     "time_s": magnitude(64), "octaves": magnitude(64), "entropy_nat": magnitude(64)}
)  # fmt: skip
FREEZING = pd.DataFrame(
    {"trainable": [3.6e6, 9e5, 2e3], "step_ms": [900.0, 500.0, 300.0],
     "gradient_mb": [14.0, 3.0, 0.0], "optimizer_mb": [28.0, 6.0, 0.0],
     "activation_mb": [300.0, 70.0, 0.0], "accuracy": [60.0, 55.0, 30.0],
     "low": [50.0, 45.0, 20.0], "high": [70.0, 65.0, 40.0]},
    index=["full", "last2", "frozen"],
)  # fmt: skip
PRETRAINING = pd.DataFrame(
    {"epoch": [1, 2, 3], "train_loss": [1.0, 0.7, 0.6], "validation_loss": [0.9, 0.7, np.nan]}
)
AROUND = pd.DataFrame(
    {"mean": 30 * magnitude(24)},
    index=pd.MultiIndex.from_product([["anechoic", "hall"], np.arange(0, 360, 30.0)]),
)
MASKED = pd.DataFrame(
    {"error_deg": [5.0, 30, 12], "low": [4.0, 20, 8], "high": [6.0, 40, 16],
     "moved_deg": [np.nan, 15, 14], "lowest_deg": [np.nan, 6, 20], "gain_deg": [np.nan, 15, -2],
     "gain_low": [np.nan, 9, -5], "gain_high": [np.nan, 20, 1]}, index=["nothing", "TE-C", "loud"]
)  # fmt: skip
LEARNT = pd.DataFrame({"epoch": [1, 2, 3], "validation_error_deg": [60.0, 20.0, 9.0]})
GAME = pd.DataFrame(
    {"step": np.arange(5), "seconds": magnitude(5), "generator_loss": magnitude(5),
     "discriminator_loss": [1.0, np.nan, 2.0, np.nan, 1.0],
     **{name: [1.0, np.nan, 0.5, np.nan, 0.0] for name in ("real", "fake", "mismatched")}}
)  # fmt: skip
ENCODER = pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.1, 0.9]})
JUDGED_WELL = ACCURACIES.rename(columns={"pooled": "accuracy"})
PRINTED = pd.DataFrame(
    {"accuracy": [84.4, 76.6], "low": [73.6, np.nan], "high": [91.3, np.nan]}, index=["poster", "x"]
)  # fmt: skip
EXAMINED = pd.DataFrame(
    {"value": [0.95, 0.7, 0.8], "null": [0.5, -5.0, 0.2], "used": [True, False, None]},
    index=pd.MultiIndex.from_product([["meaning"], ["optimum", "triangles", "sparse 1x"]]),
)
MEASURED = pd.DataFrame(
    {"value": [0.5, 0.6, 0.7], "low": [0.4, 0.5, 0.6], "high": [0.6, 0.7, 0.8]},
    index=pd.MultiIndex.from_tuples(
        [("optimum", "trained", "own"), ("sparse 1x", "trained", "own"),
         ("optimum", "random", "own")]
    ),
).sort_index()  # fmt: skip
SERIES = {"trained": ("trained", "own"), "random": ("random", "own"), "none": ("none", "own")}
CASES = {
    "probing.glass_box": [(EXAMINED, 0.9)],
    "probing.measured": [
        (MEASURED, ["optimum", "sparse 1x"], SERIES, "percentile", 0.5),
        (MEASURED, ["optimum"], {"trained": ("trained", "own")}, "percentile"),
    ],
    "crossmodal.samples": [
        ({"input sound": RNG.uniform(-1, 1, (3, 1, 64, 64)),
          "generated image": RNG.uniform(-1, 1, (3, 3, 64, 64)),
          "real image": RNG.uniform(-1, 1, (3, 1, 64, 64))}, [*"abc"], FRONT_END),
        ({"real image": RNG.uniform(-1, 1, (1, 1, 64, 64))}, ["a"], FRONT_END),
    ],
    "crossmodal.attention": [
        (RNG.uniform(-1, 1, (64, 64)), RNG.dirichlet(np.ones(keys), 64), queries, FRONT_END)
        for keys, queries in ((64, [(0, 0), (7, 3), (4, 4)]), (16, [(1, 2)]), (16, [(1, 2)] * 5))
    ],
    "crossmodal.history": [(ENCODER, GAME), (ENCODER[:1], GAME[:1])],
    "crossmodal.accuracies": [
        ({"S2I": JUDGED_WELL, "I2S": JUDGED_WELL}, {"S2I": PRINTED, "I2S": PRINTED}, 10.0),
        ({"I2S": JUDGED_WELL[:1]}, {"I2S": PRINTED[1:]}, 10.0),
    ],
    "crossmodal.resynthesis": [
        (RNG.uniform(-1, 1, (64, 64)), RNG.uniform(-1, 1, (64, 64)), magnitude(500), FRONT_END)
    ],
    "transformer.heads": [
        (db(MEL, FRAMES), AMONG, GRID, 40, (3, 50, 89)),
        (np.full((MEL, FRAMES), -80.0), AMONG[:1, :2], GRID, 0, (1,), (1,), 1),
    ],
    "transformer.reach": [
        ({"trained": PER_HEAD, "fresh": PER_HEAD}, {"time_s": 0.5, "octaves": 1, "entropy_nat": 4}),
        ({"one": PER_HEAD[:8]}, {"time_s": 0.5, "octaves": 1, "entropy_nat": 4}),
    ],
    "transformer.patches": [
        (db(MEL, FRAMES), GRID, (0, 1, 18, 40, 89)), (db(MEL, FRAMES), GRID, (5,)),
    ],
    "transformer.reconstruction": [
        (RNG.normal(size=(MEL, 60)), RNG.random((MEL, 60)) > 0.5, RNG.normal(size=(MEL, 60)),
         FRONT_END),
    ],
    "transformer.pretraining": [
        (PRETRAINING,), (PRETRAINING.assign(validation_loss=np.nan)[:1],),
    ],
    "transformer.freezing": [(FREEZING,), (FREEZING[-1:],)],
    "binaural.around_the_head": [
        ({"BAST": AROUND, "trees": AROUND / 2},), ({"BAST": AROUND.loc[["hall"]]},),
    ],
    "binaural.confusion": [
        ({"BAST": np.eye(36), "trees": magnitude(36, 36)},), ({"BAST": np.eye(8)},),
    ],
    "binaural.differences": [
        (np.arange(0, 360, 5), {"sphere": magnitude(72) / 1e3, "formula": magnitude(72) / 1e3},
         {"sphere": db(72)}),
    ],
    "binaural.learning": [(LEARNT, 5.0), (LEARNT[:1], 5.0)],
    "binaural.masking": [(MASKED,), (MASKED[:2],)],
    "binaural.responses": [(RNG.normal(size=(2, 2, 64)), 16_000, ["anechoic", "hall"])],
    "binaural.rollout": [
        (db(2, 129, 61), {f"TE-{e}": 2 * magnitude(129, 61) for e in "LRC"}, "rain, 90 degrees"),
        (db(2, 129, 61), {f"TE-{e}": np.ones((129, 61)) for e in "LRC"}),
    ],
    "data.gallery": [
        (db(3, MEL, FRAMES), NAMES, FRONT_END), (db(7, MEL, 9), [*"abcdefg"], FRONT_END),
    ],
    "data.fold_table": [(CLIPS,), (CLIPS.iloc[:7],)],
    "data.levels": [(VERIFICATION,)],
    "data.parts": [(CLIPS, 0.0, 0.42), (CLIPS, 0.0, 0.0)],
    "dictionaries.mel_bank": [(magnitude(MEL, FRONT_END.n_fft // 2 + 1), FRONT_END)],
    "dictionaries.reconstructions": [
        (magnitude(2, MEL, 11), {m: magnitude(2, MEL, 11) for m in MODELS}, NAMES[:2], FRONT_END),
        (magnitude(1, MEL, 11), {"optimum": magnitude(1, MEL, 11)}, NAMES[:1], FRONT_END),
    ],
    "dictionaries.functions": [
        (magnitude(MEL, 32), MODELS[0], FRONT_END), (np.zeros((MEL, 5)), MODELS[0], FRONT_END),
        (magnitude(MEL, 32), MODELS[0], FRONT_END, True),
    ],
    "dictionaries.trace": [
        (magnitude(3, MEL, 16), [20, 40, 60], FRONT_END), (magnitude(1, MEL, 16), [20], FRONT_END),
    ],
    "dictionaries.learning": [({m: np.linspace(1, 0.5, 9) for m in MODELS}, 0.4)],
    "dictionaries.beside_stand_ins": [
        (COMPARED, pd.DataFrame(magnitude(5, 4), LAYERS, [*"abcd"]), "relative error")
    ],
    "dictionaries.trained_and_untrained": [
        (dict.fromkeys(("one", "two", "three"), COMPARED),), (dict.fromkeys("ab", COMPARED),),
    ],
    "dictionaries.components": [
        (dict.fromkeys(LAYERS, COMPARED.set_axis(2 ** np.arange(1, 6))),)
    ],
    "dictionaries.smoothness": [(SMOOTHNESS, 0.01)],
    "dictionaries.matches": [(TEMPLATES, magnitude(MEL, 20), MATCHES, FRONT_END)],
    "dictionaries.group_atoms": [
        (pd.DataFrame(RNG.normal(size=(n, 16)), index=[f"group_{i}" for i in range(n)]),
         pd.DataFrame(RNG.uniform(0, 0.1, (n, 16)), index=[f"group_{i}" for i in range(n)]),
         RNG.uniform(50, 8000, 16), MODELS[0])
        for n in (5, 7)
    ],
    "dictionaries.patterns": [({m: magnitude(MEL) for m in ("target", *MODELS)}, FRONT_END)],
    "efficiency.latency": [(FORMS,), (FORMS.iloc[:1],)],
    "efficiency.stream": [
        (RNG.uniform(-1, 1, 9000), 1000, WINDOWS, PARTS),
        (RNG.uniform(-1, 1, 50), 1000, WINDOWS.iloc[:1], PARTS.iloc[:1]),
    ],
    "efficiency.learning": [({"narrow": HISTORY, "taught": HISTORY}, 90.0)],
    "efficiency.trade": [(FORMS,)],
    "evaluation.weights": [
        ({n: RNG.normal(size=50) for n in LAYERS}, {n: RNG.uniform(-1, 1, 50) for n in LAYERS})
    ],
    "evaluation.confusion": [
        (decisions.confusion(TRUE, GUESSED, 3), NAMES, PAIRS),
        (RNG.integers(0, 9, (20, 20)), [*NAMES, *(f"class_{i}" for i in range(17))], PAIRS),
        (np.diag([3, 2, 0]), NAMES, PAIRS[:0]),
    ],
    "evaluation.roc": [({"micro-average": CURVE, "13 cricket": CURVE},)],
    "evaluation.per_class": [(SCORES,)],
    "evaluation.two_in_classes": [(
        pd.DataFrame(
            {f"{who}{end}": level for who in ("people", "network")
             for end, level in (("", 80.0), ("_low", 70.0), ("_high", 90.0))}, index=NAMES,
        ), "people", "network",
    )],
    "evaluation.reliability": [({"before": RELIABILITY, "after": RELIABILITY},)],
    "evidence.folds": [(JUDGED, ACCURACIES, 10.0), (JUDGED[:20], ACCURACIES[:1], 10.0)],
    "evidence.price": [(ACCURACIES,)],
    "feature_maps.maps": [
        (magnitude(16, 8, 11), np.arange(16), FRONT_END),
        (magnitude(10, 8, 11), np.arange(10), FRONT_END),
    ],
    "feature_maps.gated": [
        (magnitude(n, 8, 11), magnitude(n, 8, 11), magnitude(n), np.arange(n), FRONT_END)
        for n in (16, 5)
    ],
    "feature_maps.forced": [({"validation": FORCED, "test": FORCED},), ({"test": FORCED},)],
    "feature_maps.clip_maps": [
        (EMBEDDED, {m: {n: RNG.normal(size=(30, 2)) for n in names} for m in ("t-SNE", "UMAP")})
        for names in ([*LAYERS, "fc1"], LAYERS[:1])
    ],
    "feature_maps.recalibration": [(GATES,)],
    "feature_maps.gates_per_class": [({g: magnitude(3, 8) for g in GATES}, NAMES)],
    "features.pipeline": [
        ([("waveform", RNG.normal(size=800)), ("mel power in dB", db(MEL, FRAMES)),
          ("standardised", RNG.normal(size=(MEL, FRAMES))), ("floor", db(MEL, FRAMES))], FRONT_END)
    ],
    "features.extraction": [
        (RNG.normal(size=800), db(FRONT_END.n_fft // 2 + 1, FRAMES), db(MEL, FRAMES), FRONT_END)
    ],
    "features.time_shift": [
        (RNG.normal(size=800), RNG.normal(size=800), offset_s, 16_000) for offset_s in (0.01, -0.01)
    ],
    "features.noise_spectra": [
        (np.geomspace(25, 8000, 50), {c: db(50) for c in ("white", "pink", "brown")})
    ],
    "features.padding": [
        ([db(MEL, 50), db(MEL, 300)], [db(MEL, FRAMES), db(MEL, FRAMES)], ["a.wav", "b.wav"],
         FRONT_END)
    ],
    "features.normalisation": [(db(4, MEL, FRAMES), RNG.normal(size=(4, MEL, FRAMES)), [*"abcd"])],
    "features.single": [
        (db(MEL, FRAMES), FRONT_END, "raw", "dB"),
        (RNG.normal(size=(MEL, FRAMES)), FRONT_END, "difference", "deviations", True),
    ],
    "rows.interval_rows": [
        (INTERVALS, "error", "relative error", 0.6), (DIFFERENCES[:1], "difference", "points"),
        (MANY, "difference", "points", 0),
    ],
    "explanations.decision": [
        (db(MEL, FRAMES), RNG.normal(size=(20, 5)), magnitude(MEL, 20), magnitude(MEL, FRAMES),
         FRONT_END),
        (db(MEL, FRAMES), np.zeros((3, 5)), np.zeros((MEL, 3)), magnitude(MEL, FRAMES), FRONT_END),
    ],
    "explanations.relevance": [(
        -magnitude(64, 33), {"a": magnitude(64, 33) - 0.5, "b": magnitude(64, 33) * 0},
        {"a": magnitude(64, 33), "b": magnitude(64, 33)}, Grid(16_000),
    )],
    "explanations.scores": [
        (SCORED, (scores.FIVE[0], scores.FIVE[3])), ({"clean": SCORED["clean"]}, scores.FIVE[:1]),
    ],
    "explanations.portraits": [
        ({"dog": magnitude(MEL, 3), "door_knock": magnitude(MEL, 3)}, np.geomspace(50, 8000, MEL)),
        ({"dog": magnitude(MEL, 1)}, np.geomspace(50, 8000, MEL)),
    ],
    "explanations.portraits_kept": [
        (pd.DataFrame(
            RNG.uniform(0, 100, (5, 6)),
            pd.MultiIndex.from_tuples([*((m, n) for m in ("portrait", "H = 1") for n in (1, 5)),
                                       ("mean gradient", 0)], names=["method", "n"]),
            pd.MultiIndex.from_product([("stays", "turned"), ("mean", "low", "high")])),),
    ],
    "explanations.randomisation": [
        (pd.DataFrame({"clip": [0, 1] * 2, "ours": magnitude(4), "theirs": magnitude(4),
                       "stage": ["fc2"] * 2 + ["conv_block1"] * 2}), 0.5),
    ],
    "misclassification.errors": [
        (RNG.normal(size=(n, MEL, FRAMES)), {c: magnitude(n, MEL, FRAMES) for c in "ab"},
         ["hen heard as dog"] * n, FRONT_END)
        for n in (2, 1)
    ],
    "misclassification.confidence": [(magnitude(20), magnitude(5)), (magnitude(20), np.array([]))],
    "misclassification.nearest": [
        (RNG.uniform(0.9, 1, 20), RNG.uniform(0.5, 1, 20), RNG.random(20) > 0.7),
        (np.ones(3), np.array([0.2, 1, -0.1]), np.zeros(3, bool)),
    ],
    "shortcuts.cues": [
        (CLIPS.assign(trailing_s=RNG.integers(0, 2, 30) / 2, edge_hz=1000 * magnitude(30),
                      fall_db=magnitude(30)),),
    ],
    "training.shapes": [([("input", (1, 128, 431)), ("block 1", (64, 64, 215))],)],
    "training.head": [([("pooled", 1024), ("fc1", 2048), ("fc2", 50)],)],
    "training.costs": [(COMPONENTS,)],
    "training.history": [(HISTORY, 3, 0.1), (HISTORY.iloc[:1], 1, 0.1)],
}  # fmt: skip
DRAWINGS = ("training.shapes", "training.head")  # boxes and arrows: no data axes
each_case = pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(name, arguments, id=f"{name}-{index}")
        for name, cases in CASES.items()
        for index, arguments in enumerate(cases)
    ],
)


@pytest.fixture(autouse=True)
def house_style(monkeypatch):
    """Set the style as the notebooks do, for one test; a call of show fails it."""

    def show(*_arguments, **_options):
        pytest.fail("a figure function called show")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(Figure, "show", show)
    with mpl.rc_context():
        style.apply()
        yield
    plt.close("all")


def every_figure_function():
    """Return subject.name to function: a module of figures is a subject, and so is a companion."""
    found = {}
    for room in (figures, companions):
        for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            module = importlib.import_module(info.name)
            for name, function in inspect.getmembers(module, inspect.isfunction):
                returns = inspect.signature(function).return_annotation
                own = function.__module__ == module.__name__ and not name.startswith("_")
                if own and returns in ("Figure", Figure):
                    subject = info.name.removeprefix(f"{room.__name__}.").partition(".")[0]
                    found[f"{subject}.{name}"] = function
    return found


FUNCTIONS = every_figure_function()


def call(name, arguments):
    return FUNCTIONS[name](*arguments)


def colour_bars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def data_axes(figure):
    bars = colour_bars(figure)
    return [ax for ax in figure.axes if ax not in bars and ax.axison and ax.get_visible()]


def shows_numbers(axis):
    """Say whether an axis has tick labels that need a unit: numbers, visible."""
    texts = [label.get_text().strip("$−-+").rstrip("k") for label in axis.get_ticklabels()]
    side = "labelleft" if axis.axis_name in ("y", "radius") else "labelbottom"
    drawn = axis.get_tick_params()[side]
    return drawn and any(text.replace(".", "").isdigit() for text in texts)


# ----------------------------------------------------------------------------------------------


def test_every_figure_function_has_a_case():
    assert set(FUNCTIONS) == set(CASES)


@each_case
def test_figure_is_opaque_white_labelled_and_leaves_its_data_alone(name, arguments):
    kept = copy.deepcopy(arguments)
    figure = call(name, arguments)
    same(arguments, kept)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == [figure.number]  # no other figure is left open
    figure.set_dpi(40)
    figure.canvas.draw()  # a layout that does not work warns here
    check_opaque_white(figure)
    assert bool(data_axes(figure)) == (name not in DRAWINGS)
    check_labels(figure)
    for image in images(figure):  # no jet
        assert image.get_cmap().name in ("magma", "viridis", "RdBu_r", "gray")


def check_opaque_white(figure):
    assert figure.get_facecolor() == (1, 1, 1, 1)
    for ax in data_axes(figure):
        assert ax.get_facecolor() == (1, 1, 1, 1)
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0, 0] == 255).all() and (pixels[-1, -1] == 255).all()
    assert pixels[..., :3].min() < 200  # something is drawn


def check_labels(figure):
    axes = data_axes(figure)
    shared_x, shared_y = figure.get_supxlabel(), figure.get_supylabel()
    for ax in axes:
        assert ax.get_xlabel() or shared_x or not shows_numbers(ax.xaxis), ax
        assert ax.get_ylabel() or shared_y or not shows_numbers(ax.yaxis), ax
    if axes:  # where neighbours leave labels out, the outer ones have them; names need none
        names = any(len(ax.get_yticks()) and not shows_numbers(ax.yaxis) for ax in axes)
        assert shared_x or any(ax.get_xlabel() for ax in axes)
        assert shared_y or names or any(ax.get_ylabel() for ax in axes)
    for bar in colour_bars(figure):
        assert bar.get_ylabel() or bar.get_xlabel()


def same(value, kept):
    """Compare nested arguments."""
    assert type(value) is type(kept)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(value, kept)
    elif isinstance(value, np.ndarray):
        np.testing.assert_array_equal(value, kept)
    elif dataclasses.is_dataclass(value):
        same(vars(value), vars(kept))
    elif isinstance(value, dict):
        assert list(value) == list(kept)
        same(list(value.values()), list(kept.values()))
    elif isinstance(value, list | tuple):
        assert len(value) == len(kept)
        for one, other in zip(value, kept, strict=True):
            same(one, other)
    else:
        assert value == kept


# --------------------------------------------------------------------------- what is in them


def images(figure):
    return [image for ax in figure.axes for image in ax.get_images()]


@pytest.mark.parametrize(
    "name",
    ["data.gallery", "dictionaries.reconstructions", "feature_maps.maps", "features.padding",
     "feature_maps.gated", "feature_maps.gates_per_class"],
)  # fmt: skip
def test_compared_panels_share_their_limits(name):
    limits = {image.get_clim() for image in images(call(name, CASES[name][0]))}
    assert len(limits) == 1


def test_signed_values_get_a_diverging_map_centred_on_zero():
    plain, signed = (images(call("features.single", c))[0] for c in CASES["features.single"])
    assert (plain.get_cmap().name, signed.get_cmap().name) == ("magma", "RdBu_r")
    low, high = signed.get_clim()
    assert low == -high < 0


def test_a_row_shows_its_value_on_its_interval_from_the_top_down():
    (ax,) = call("rows.interval_rows", (DIFFERENCES, "difference", "points", 0)).axes
    values, reference = ax.lines
    assert values.get_xdata().tolist() == [-3, 0.5]
    (bars,) = ax.collections
    ends = [bar[:, 0].tolist() for bar in bars.get_segments()]
    assert ends == [[-6, 0], [-2, 3]]
    places = [bar[0, 1] for bar in bars.get_segments()]
    assert places == values.get_ydata().tolist() == ax.get_yticks().tolist() == [1, 0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["no masks", "mixing"]
    assert set(reference.get_xdata()) == {0}


def test_a_measure_is_drawn_where_it_was_measured():
    figure = call("probing.measured", CASES["probing.measured"][0])
    drawn = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].lines}
    assert drawn["trained"] == [0.5, 0.6] and drawn["random"] == [0.7]
    assert drawn["none"] == []


def test_spectrogram_has_time_and_frequency_at_the_right_places():
    figure, ax = plt.subplots()
    image = style.spectrogram(ax, db(MEL, FRAMES), FRONT_END, vmin=-80, vmax=0)
    assert image.get_extent() == [0, pytest.approx(FRAMES * 256 / 16_000), 0, MEL]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "frequency (Hz)")
    # a tick stands on the middle of the band that is centred at the frequency it names
    centres = style.mel_frequencies_hz(FRONT_END).numpy()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert {"200", "1k", "5k"} <= set(names)
    for place, name in zip(ax.get_yticks(), names, strict=True):
        hz = float(name.replace("k", "e3"))
        assert np.interp(place - 0.5, np.arange(MEL), centres) == pytest.approx(hz, rel=1e-3)
