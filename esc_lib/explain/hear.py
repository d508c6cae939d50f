"""A page about one sound file and one recorded network, for those who write no code."""

import html
from pathlib import Path

import pandas as pd
import soundfile
import torch
from torch import nn

from esc_lib.config import FrontEnd, Network, restore
from esc_lib.explain.sound_explainer import SoundExplainer
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import autocast
from esc_lib.machine.reading import must_hold, refuse
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.grid import Grid
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint

LARGEST = 2**16  # samples of a window, and frames
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
padding: 0 1rem }} table {{ border-collapse: collapse }} td, th {{ padding: .2rem .8rem;
text-align: right }} .scroll {{ overflow-x: auto }}</style></head>
<body><h1>{title}</h1><p>{found}</p>{players}
<p>What the network makes of what is kept, beside masks of the same values that explain nothing.
AI, AG, FF, Fid-In and gain: higher is better; AD: lower.</p><div class="scroll">{scores}</div>
</body></html>
"""


class OnWaves(nn.Module):
    """A network of the study behind its front end: waves, (batch, samples), to logits."""

    def __init__(self, front_end: FrontEnd, network: SECNN):
        super().__init__()
        self.front_end, self.network = LogMel(front_end), network

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        n_valid = torch.full((len(waves),), waves.shape[1], device=waves.device)
        with autocast(waves.device):
            return self.network(self.front_end.features(waves, n_valid)).float()


def open_network(folder: str | Path) -> tuple[OnWaves, list[str]]:
    """Open the network of a recorded study or run, and its classes' names.

    Raises
    ------
    FileNotFoundError
        If the folder holds no weights.
    ValueError
        If they are damaged, or name settings of no network that hears sound.
    """
    weights = Path(folder) / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"hear: {weights} is missing; give a folder as results/esc10.")
    saved, tensors = checkpoint.read(weights)
    must_hold(weights, saved, front_end=dict, network=dict, class_names=list)
    try:
        front_end = restore(FrontEnd, saved["front_end"])
        network = restore(Network, saved["network"])
    except ValueError as error:
        refuse(weights, f"has settings of another kind ({error})")
    if not _can_hear(front_end):
        refuse(weights, f"was made with a front end that hears nothing ({front_end})")
    names = [str(name) for name in saved["class_names"]]
    model = OnWaves(front_end, checkpoint.network(weights, tensors, len(names), network))
    return model.eval().to(memory_format=torch.channels_last), names


def _can_hear(own: FrontEnd) -> bool:
    """Say whether a front end can be built, and in little memory."""
    return (
        0 < own.hop_length <= own.win_length <= own.n_fft <= LARGEST
        and 0 < own.n_mels <= own.n_fft // 2 + 1
        and 0 < own.n_frames <= LARGEST
        and 0 <= own.f_min_hz < own.f_max_hz <= own.sr / 2
        and own.top_db > 0
    )


def explainer_of(folder: str | Path) -> SoundExplainer:
    """Return the explainer of a recorded network, on the bands and frames that it hears."""
    model, names = open_network(folder)
    settings = model.front_end.settings
    window_s = settings.n_frames * settings.frame_s
    names = [name.replace("_", " ") for name in names]
    return SoundExplainer(
        model, settings.sr, grid=Grid.of(settings), names=names, window_s=window_s
    )


def hear(sound: Path, folder: Path, page: Path, target: str = "", **options) -> str:
    """Explain a sound file and write a page that needs nothing else; return what was found.

    Parameters
    ----------
    target : name of the class explained; empty: the one decided for.
    options : of ``SoundExplainer.attribute``.

    Raises
    ------
    ValueError, OSError
        With one sentence, if the file cannot be read or there is no such class.
    """
    explainer = explainer_of(folder)
    try:
        waves, sr = soundfile.read(sound, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"hear: {sound} cannot be read ({error}).") from None
    target = target.replace("_", " ")
    if target and target not in explainer.names:
        raise ValueError(f"hear: no class {target!r}; choose one of {', '.join(explainer.names)}.")
    asked = explainer.names.index(target) if target else None
    explanation = explainer.attribute(waves.mean(axis=1), asked, sr=sr, **options)
    ranked = pd.Series(explanation.probabilities[0].tolist(), explainer.names).nlargest(3)
    given = ", ".join(f"{name} {100 * p:.0f} %" for name, p in ranked.items())
    explained = explainer.names[int(explanation.targets[0])]
    found = f"{sound.name}: {given}. Explained: {explained}, by {explanation.method}."
    text = PAGE.format(
        title=html.escape(f"What of {sound.name} is heard as {explained}"),
        found=html.escape(found),
        players=explanation.show().data,
        scores=explanation.score().to_html(float_format="%.2f", border=0),
    )
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return found
