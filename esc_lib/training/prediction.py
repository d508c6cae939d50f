"""What a network makes of clips: logits over whole clips, or over evenly spaced excerpts."""

import numpy as np
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span
from esc_lib.sound.log_mel import LogMel


@torch.no_grad()
def predict(
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    crop_frames: int = 0,
    n_crops: int = 1,
    *,
    spans: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the logits of some clips, float32 on the CPU, shape (clips, classes).

    Parameters
    ----------
    model, front_end : on one device.
    rows : int array, shape (clips,).
    crop_frames : int, frames of an excerpt; 0 shows the network the whole clip.
    n_crops : int, evenly spaced excerpts; from more than one, the logarithm of the mean
        probability is returned instead of logits.
    spans : int tensor, shape (all clips, 2), if ``audio.sounding_span`` is at hand.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = []
    for batch in np.array_split(rows, max(1, -(-len(rows) // 32))):
        waveforms, n_valid = data.batch(batch, device)
        if crop_frames:
            span = sounding_span(data.waveforms[batch]) if spans is None else spans[batch]
            views = _crops(front_end, waveforms, span.to(device), crop_frames, n_crops)
        else:
            views = [front_end.features(waveforms, n_valid)]
        seen = torch.stack([model(view).float().cpu() for view in views])
        if len(seen) > 1:
            seen = seen.log_softmax(-1).logsumexp(0, keepdim=True) - np.log(len(seen))
        logits.append(seen[0])
    model.train(was_training)
    return torch.cat(logits)


def accuracy(model: nn.Module, front_end: LogMel, data: Data, rows: np.ndarray) -> float:
    """Return how often the network is right about whole clips, in percent."""
    decided = predict(model, front_end, data, rows).argmax(1)
    return 100 * float((decided == data.labels[rows]).float().mean())


def _crops(front_end: LogMel, waveforms, span, crop_frames: int, n_crops: int):
    """Yield the features of evenly spaced excerpts, each (batch, 1, mel, frames)."""
    front_end = front_end.of_frames(crop_frames)
    n_samples = front_end.settings.n_samples
    for place in torch.linspace(0, 1, n_crops) if n_crops > 1 else torch.tensor([0.5]):
        starts = augment.crop_starts(span, n_samples, place.to(span.device))
        excerpt = augment.crop(waveforms, starts, n_samples)
        yield front_end.features(excerpt, torch.full_like(starts, n_samples))
