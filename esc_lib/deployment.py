"""A trained network on a CPU: ONNX files, 8-bit integers, latency, and listening to a stream."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from esc_lib.features import LogMel
from esc_lib.files import write_atomically

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "features", "logits"

# --------------------------------------------------------------------------------------- ONNX


def export_onnx(
    model: nn.Module, path: Path, n_mels: int, n_frames: int, *, free_frames: bool = True
) -> None:
    """Write a network as one ONNX file, batch normalisation folded into the convolutions.

    Parameters
    ----------
    model : nn.Module, (batch, 1, mel, frames) to (batch, classes), on any device; unchanged.
    path : Path, replaced only when the new file is whole.
    n_mels, n_frames : int, mel bands, fixed in the file, and frames of the example to follow.
    free_frames : bool
        Let the file take any number of frames, as the SE-CNN does from 32 on; the batch is
        always free. False fixes `n_frames`, for networks that take no other.

    Raises
    ------
    ValueError
        If torch cannot export the network so; its own message is the cause.
    ImportError
        If onnx or onnxscript is missing.
    """
    onnx, _ = _require("onnx"), _require("onnxscript")
    axes = {0: "batch", 3: "frames"} if free_frames else {0: "batch"}
    with _quiet_exporter():
        try:
            program = torch.onnx.export(
                copy.deepcopy(model).cpu().eval().requires_grad_(False),
                (torch.zeros(2, 1, n_mels, n_frames),),  # torch takes a batch of 1 for fixed
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(axes,),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(
                f"export_onnx: torch cannot export this network for {n_mels} mel bands, "
                f"{n_frames} frames and free_frames={free_frames}; if it takes only clips of one "
                f"length, pass free_frames=False."
            ) from error
    content = program.model_proto
    graph = content.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (graph, *graph.node, *values):
        del part.metadata_props[:]  # torch's notes, with stack traces and paths of this machine
    write_atomically(path, lambda p: onnx.save(content, p))


def onnx_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an ONNX file in ONNX Runtime, on `threads` CPU threads.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or damaged; if `threads` is below 1.
    ImportError
        If onnxruntime is missing.
    """
    runtime = _require("onnxruntime")
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    _require_file("onnx_session", path)
    if threads < 1:
        raise ValueError(f"onnx_session: threads={threads}, expected at least 1.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (state.InvalidProtobuf, state.InvalidGraph, state.Fail) as error:
        raise ValueError(f"onnx_session: {path} is damaged ({error}); export it again.") from None


def onnx_logits(session: onnxruntime.InferenceSession, features: np.ndarray) -> np.ndarray:
    """Return the logits, float32, shape (batch, classes), of (batch, 1, mel, frames).

    Raises
    ------
    ValueError
        If the features do not fit the file.
    """
    features = _fitting("onnx_logits", features, session.get_inputs()[0].shape)
    return session.run([OUTPUT], {INPUT: features})[0]


def quantise_int8(
    onnx_path: Path,
    target: Path,
    calibration_features: Iterable[np.ndarray],
    *,
    reduce_range: bool = True,
) -> None:
    """Write an ONNX file of :func:`export_onnx` again with integer weights and maps.

    Convolutions, max pooling and all linear layers but the last compute with 8-bit integers:
    weights with a scale per output channel, activations with one per tensor, fixed on the
    calibration clips (their extremes). The gates' pooling and sigmoid, which cost nothing, and
    the logits, which the calibration must not clip, stay float.

    Parameters
    ----------
    onnx_path, target : Path
    calibration_features : iterable of float array, shape (batch, 1, mel, frames): training
        clips as the network sees them without augmentation, never test clips.
    reduce_range : bool
        Weights of 7 bits. Where an x86 processor lacks VNNI, sums of two 8-bit products
        overflow silently; the default is right everywhere.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing; if there are no calibration features or they do not fit it.
    ImportError
        If onnx or onnxruntime is missing.

    References
    ----------
    jacob2018quantization, section 2; ONNX Runtime's static quantisation in QDQ format.
    """
    onnx, _ = _require("onnx"), _require("onnxruntime")
    tools = importlib.import_module("onnxruntime.quantization")
    prepare = importlib.import_module("onnxruntime.quantization.shape_inference")
    _require_file("quantise_int8", onnx_path)
    graph = onnx.load(onnx_path).graph
    shape = [axis.dim_value or axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim]
    (last,) = (node.name for node in graph.node if OUTPUT in node.output)

    batches = iter(calibration_features)
    first = next(batches, None)
    if first is None:
        raise ValueError("quantise_int8: calibration_features is empty; pass training clips.")

    class Reader(tools.CalibrationDataReader):
        items = itertools.chain([first], batches)

        def get_next(self):
            item = next(self.items, None)
            return None if item is None else {INPUT: _fitting("quantise_int8", item, shape)}

    def write(path: Path) -> None:
        prepared = path.with_suffix(".prepared")
        try:
            prepare.quant_pre_process(
                onnx_path, prepared, skip_optimization=True, skip_symbolic_shape=True
            )
            tools.quantize_static(
                prepared,
                path,
                Reader(),
                quant_format=tools.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu", "MaxPool", "Gemm"],
                nodes_to_exclude=[last],
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
            )
        finally:
            prepared.unlink(missing_ok=True)

    write_atomically(target, write)


def _require(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"deployment: package {name!r} is missing; install the extra 'esc-lib[deploy]'."
        ) from error


def _require_file(where: str, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{where}: {path} does not exist; write it with export_onnx first.")


def _fitting(where: str, features: np.ndarray, shape: list[int | str]) -> np.ndarray:
    """Return `features` as float32 if it has the shape of the file; a str is a free axis."""
    fixed = [axis if isinstance(axis, int) else None for axis in shape]
    if len(features.shape) != len(fixed) or any(
        wanted not in (None, size) for wanted, size in zip(fixed, features.shape)
    ):
        wanted = ", ".join(map(str, shape))
        raise ValueError(
            f"{where}: features have the shape {tuple(features.shape)}, the file takes ({wanted})."
        )
    return np.ascontiguousarray(features, dtype=np.float32)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what torch's exporter says about itself: nothing of it concerns our network."""
    logger = logging.getLogger("torch.onnx")  # lists operators of torchvision it does not find
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13 deep-copies a class of its own that it has deprecated
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


# ------------------------------------------------------------------------ latency, streaming


@dataclass(frozen=True)
class Latency:
    """Wall time of one call in ms: median, first and third quartile, lower is better."""

    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float


def latency(run: Callable[[], object], repeats: int = 30, warm_up: int = 3) -> Latency:
    """Time `repeats` calls of `run` after `warm_up` calls that do not count.

    Parameters
    ----------
    run : callable without arguments; on an accelerator it has to wait for the result.
    repeats, warm_up : int

    Raises
    ------
    ValueError
        If `repeats` is below 1 or `warm_up` below 0.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(
            f"latency: repeats={repeats}, warm_up={warm_up}; expected at least 1 and 0."
        )
    for _ in range(warm_up):
        run()
    times_ms = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - start))
    first, median, third = np.percentile(times_ms, [25, 50, 75])
    return Latency(float(median), float(first), float(third))


def real_time_factor(seconds_per_call: float, seconds_of_audio: float) -> float:
    """Return computing time over the audio time that a call moves on by; below 1 keeps up.

    In a stream `seconds_of_audio` is the hop, not the window.

    Raises
    ------
    ValueError
        If `seconds_per_call` is negative or `seconds_of_audio` not above 0.

    Examples
    --------
    >>> real_time_factor(0.25, 1.0)
    0.25
    """
    if seconds_per_call < 0 or not seconds_of_audio > 0:
        raise ValueError(
            f"real_time_factor: seconds_per_call={seconds_per_call}, seconds_of_audio="
            f"{seconds_of_audio}; expected at least 0 and above 0."
        )
    return seconds_per_call / seconds_of_audio


def stream(
    model: Callable[[torch.Tensor], torch.Tensor],
    front_end: LogMel,
    waveform: torch.Tensor,
    window_s: float,
    hop_s: float,
) -> Iterator[tuple[float, torch.Tensor]]:
    """Classify a long recording window by window, as a device would do it while it listens.

    Parameters
    ----------
    model : callable, (1, 1, mel, frames) to logits (1, classes): a network in evaluation mode on
        the front end's device, or a function around :func:`onnx_logits`.
    front_end : LogMel
    waveform : float tensor, shape (samples,), full scale 1, at the front end's sample rate.
    window_s : float, length of a window in s, at most what the front end sees; a shorter one is
        padded like a short clip (or use ``front_end.of_frames``).
    hop_s : float, distance between the starts of two windows in s.

    Yields
    ------
    start_s, probabilities : float, and tensor of shape (classes,). A recording shorter than a
        window gives one; what is left behind the last whole window is not read.

    Raises
    ------
    ValueError
        At the call: if the waveform is not one finite, non-empty float channel, a length does
        not fit, or the network is in training mode.
    """
    sr, most = front_end.settings.sr, front_end.settings.n_samples
    n_window = round(window_s * sr)
    if waveform.ndim != 1 or len(waveform) == 0 or not waveform.is_floating_point():
        raise ValueError(
            f"stream: waveform is {waveform.dtype} of the shape {tuple(waveform.shape)}; "
            f"expected floats of the shape (samples,)."
        )
    if not waveform.isfinite().all():
        raise ValueError("stream: waveform has values that are not finite; repair the recording.")
    if not 1 <= n_window <= most:
        raise ValueError(
            f"stream: window_s={window_s}, expected above 0 and at most {most / sr:.3f}, "
            f"which is what the front end sees."
        )
    if round(hop_s * sr) < 1:
        raise ValueError(f"stream: hop_s={hop_s}, expected at least one sample.")
    if getattr(model, "training", False):
        raise ValueError("stream: the network is in training mode; call its eval() first.")

    def windows() -> Iterator[tuple[float, torch.Tensor]]:
        for i in itertools.count():
            start = round(i * hop_s * sr)
            if i > 0 and start + n_window > len(waveform):
                return
            piece = waveform[None, start : start + n_window].to(front_end.window)
            with torch.no_grad():
                n_valid = torch.tensor([piece.shape[1]], device=piece.device)
                logits = model(front_end.features(piece, n_valid))
            yield start / sr, logits[0].softmax(dim=0)

    return windows()
