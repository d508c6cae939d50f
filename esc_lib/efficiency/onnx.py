"""A trained network in ONNX files, of floats and of 8-bit integers."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from esc_lib.machine.files import write_atomically

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "features", "logits"


def export_onnx(
    model: nn.Module, path: Path, n_mels: int, n_frames: int, *, free_frames: bool = True
) -> None:
    """Write a network as one ONNX file, batch normalisation folded into the convolutions.

    Parameters
    ----------
    model : (batch, 1, mel, frames) to (batch, classes), on any device; unchanged.
    path : replaced only when the new file is whole.
    n_mels, n_frames : mel bands, fixed in the file, and frames of the example to follow.
    free_frames : let the file take any number of frames, as the SE-CNN does from 32 on; the batch
        is always free. False fixes `n_frames`, for networks that take no other.

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
    onnx_path: Path, target: Path, calibration_features: Iterable[np.ndarray]
) -> None:
    """Write an ONNX file of :func:`export_onnx` again with integer weights and maps.

    Convolutions, max pooling and all linear layers but the last compute with 8-bit integers:
    weights with a scale per output channel, activations with one per tensor, fixed on the
    calibration clips (their extremes). The gates' pooling and sigmoid, which cost nothing, and
    the logits, which the calibration must not clip, stay float.

    Parameters
    ----------
    calibration_features : float arrays, shape (batch, 1, mel, frames): training clips as the
        network sees them without augmentation, never test clips.

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
                # weights of 7 bits: where an x86 processor lacks VNNI, sums of two 8-bit products
                # overflow silently
                reduce_range=True,
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
            f"onnx: package {name!r} is missing; install the extra 'esc-lib[deploy]'."
        ) from error


def _require_file(where: str, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{where}: {path} does not exist; write it with export_onnx first.")


def _fitting(where: str, features: np.ndarray, shape: list[int | str]) -> np.ndarray:
    """Return `features` as float32 if it has the shape of the file; a str is a free axis."""
    free = [size if isinstance(axis, str) else axis for axis, size in zip(shape, features.shape)]
    if len(features.shape) != len(shape) or free != list(features.shape):
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
