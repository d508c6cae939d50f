"""Listening to a long recording, window by window."""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch

from esc_lib.data.clips import Data
from esc_lib.efficiency.forms import Form
from esc_lib.machine import hardware
from esc_lib.sound.log_mel import LogMel


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
    model : (1, 1, mel, frames) to logits (1, classes): a network in evaluation mode on the front
        end's device, or a function around :func:`onnx_logits`.
    waveform : float tensor, shape (samples,), full scale 1, at the front end's sample rate.
    window_s : length of a window, at most what the front end sees; a shorter one is padded like a
        short clip (or use ``front_end.of_frames``).
    hop_s : from the start of a window to that of the next.

    Yields
    ------
    start_s, probabilities : the latter of shape (classes,). A recording shorter than a window
        gives one; what is left behind the last whole window is not read.

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


def join_clips(data: Data, rows: np.ndarray, sr: int) -> tuple[torch.Tensor, pd.DataFrame]:
    """Join clips to one long recording.

    Returns
    -------
    waveform : float tensor, shape (samples,).
    parts : DataFrame, a row per clip: category, start_s, end_s.
    """
    waveforms, n_valid = data.batch(rows)
    lengths = n_valid.tolist()
    waveform = torch.cat([w[:length] for w, length in zip(waveforms, lengths, strict=True)])
    ends = np.cumsum(lengths) / sr
    parts = pd.DataFrame(
        {
            "category": data.clips.category.loc[rows].to_numpy(),
            "start_s": np.concatenate([[0.0], ends[:-1]]),
            "end_s": ends,
        }
    )
    return waveform, parts


def listen(
    form: Form, front_end: LogMel, waveform: torch.Tensor, hop_s: float, class_names: list[str]
) -> pd.DataFrame:
    """Classify a recording window by window, on one thread.

    Parameters
    ----------
    front_end : on the CPU; its frames are the window's.
    waveform, hop_s : as for :func:`stream`.

    Returns
    -------
    DataFrame, a row per window: start_s, end_s, ms (computing time), then a column of
        probabilities per class.
    """
    own = front_end.settings
    window_s = own.n_frames * own.frame_s
    rows = []
    with hardware.torch_threads(1):
        windows = stream(form.classifier(), front_end, waveform, window_s, hop_s)
        started = time.perf_counter()
        for start_s, probabilities in windows:
            ms = 1e3 * (time.perf_counter() - started)
            rows.append([start_s, start_s + window_s, ms, *probabilities.tolist()])
            started = time.perf_counter()
    return pd.DataFrame(rows, columns=["start_s", "end_s", "ms", *class_names])


def truth_of_windows(windows: pd.DataFrame, parts: pd.DataFrame) -> pd.Series:
    """Return the category of the clip that a window lies in, missing where it spans two."""
    clip = np.searchsorted(parts.end_s, windows.start_s, side="right").clip(max=len(parts) - 1)
    inside = windows.end_s.to_numpy() <= parts.end_s.to_numpy()[clip] + 1e-6
    return pd.Series(parts.category.to_numpy()[clip], index=windows.index).where(inside)
