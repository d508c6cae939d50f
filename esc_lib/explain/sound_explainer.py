"""Explain anybody's sound classifier: waves in; a sound, a picture and scores out."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import soxr
import torch

from esc_lib.explain import any_layer
from esc_lib.explain.asked import OUTPUTS, Asked, gradient, integrated_gradients, occlusion
from esc_lib.explain.components import Choice
from esc_lib.explain.explanation import Explanation
from esc_lib.explain.heatmaps import Shape
from esc_lib.explain.masks import sign_mask
from esc_lib.sound.grid import Grid

DEFAULT = "integrated gradients"  # points to what a decision stands on, see notebook 17
Maps = tuple[torch.Tensor, torch.Tensor]  # relevance and mask, both (batch, bands, frames)


class SoundExplainer:
    """Explains the decisions of one model, whatever is inside.

    Parameters
    ----------
    model : a module or any function of waves, float32 (batch, samples), full scale 1, that returns
        (batch, classes).
    sr : sampling rate in Hz that the model expects.
    output : what the model returns: "logits" of a softmax, "probabilities" that sum to 1, or
        "independent" ones, as of a tagger.
    grid : bands and frames of the explanation; default: 64 mel bands, windows of about 64 ms.
    names : of the classes, for tables and players.
    window_s : explain longer sounds in pieces of so many seconds, the length that the model takes;
        None gives it sounds of any length.

    Examples
    --------
    >>> def model(waves):  # class 1 is loud
    ...     loud = waves.square().mean(dim=1).log()
    ...     return torch.stack([torch.zeros_like(loud), loud], dim=1)
    >>> explanation = SoundExplainer(model, sr=16_000).attribute(torch.randn(16_000))
    >>> explanation.sound.shape, explanation.relevance.shape
    (torch.Size([1, 16000]), torch.Size([1, 64, 63]))
    """

    def __init__(
        self, model: Callable, sr: int, *, output: str = "logits", grid: Grid | None = None,
        names: list[str] | None = None, window_s: float | None = None, batch_size: int = 8,
    ):  # fmt: skip
        if not callable(model):
            raise ValueError(f"SoundExplainer: model is a {type(model).__name__}, no function.")
        if output not in OUTPUTS:
            raise ValueError(f"SoundExplainer: output={output!r}; one of {', '.join(OUTPUTS)}.")
        n_fft = 2 ** round(np.log2(0.064 * sr))
        grid = grid or Grid(sr, n_fft, n_fft // 4)
        if grid.sr != sr:
            raise ValueError(f"SoundExplainer: sr={sr} Hz, but the grid is of {grid.sr} Hz.")
        self.asked = Asked(model, grid, output, batch_size)
        self.sr, self.names, self.window_s = sr, names, window_s
        self.dictionary: any_layer.LayerDictionary | None = None

    def fit(self, waves, layer: str, layout: str = "b c f t", sr: int | None = None):
        """Fit a dictionary over a layer of the model, for method="dictionary"; returns itself.

        Parameters
        ----------
        waves : sounds as :meth:`attribute` takes them, the more the better.
        layer : as in ``model.named_modules()``.
        layout : of its output, one of "b c f t", "b c t f", "b c t", "b t c": batch, channels,
            frequency and time.
        """
        self.dictionary = any_layer.fit(self.asked, self._taken(waves, sr), layer, layout)
        return self

    def attribute(
        self, waves, target: int | list[int] | None = None, *, sr: int | None = None,
        method: str | Callable = DEFAULT, budget_s: float = 60.0, cells: int = 0,
    ) -> Explanation:  # fmt: skip
        """Explain why sounds are given a class.

        Parameters
        ----------
        waves : array or tensor, (samples,), (batch, samples) or (batch, channels, samples), full
            scale 1; channels are averaged, with a warning.
        target : class explained, one for all or one each; None: those decided for.
        sr : of the waves in Hz, if it is another than the model's: they are resampled.
        method : see `METHODS`. "integrated gradients" points to what a decision stands on; the
            "gradient equaliser" keeps what raises it most; "dictionary" needs :meth:`fit`;
            "occlusion" needs no gradient. Or a function of one's own: of waves, (batch, samples),
            and targets, int (batch,), that returns relevance on the grid, (batch, bands, frames),
            or relevance and mask.
        budget_s : time that occlusion may take, in seconds, which sets the size of its cells.
        cells : their number in a sound at most, instead: then maps are the same every time.

        Raises
        ------
        ValueError
            With one sentence, if sounds, class, method and model do not fit each other.
        """
        how = partial(_by_own, method) if callable(method) else METHODS.get(method)
        if how is None:
            raise ValueError(f"attribute: method={method!r}; choose one of {', '.join(METHODS)}.")
        waves = self._taken(waves, sr)
        given = self.listen(waves)
        targets = self._targets(target, given)
        pieces, size, parts = self._windows(waves), self.asked.batch_size, []
        for piece in pieces:
            for some, its in zip(piece.split(size), targets.split(size), strict=True):
                share = budget_s * len(some) / (len(waves) * len(pieces))
                parts.append(how(self, some, its, share, cells))
        relevance, mask = (self._joined(each, waves) for each in zip(*parts, strict=True))
        own = self.asked, self.listen, self.names, self.dictionary
        name = method if isinstance(method, str) else getattr(method, "__name__", "own method")
        return Explanation(*own, waves, targets, given, name, relevance, mask)

    def explain_func(self, model, inputs, targets, **_) -> np.ndarray:
        """Return how much each sample matters, (batch, samples): a function as Quantus wants it."""
        found = self.attribute(np.asarray(inputs).reshape(len(inputs), -1), list(targets))
        course = found.relevance.abs().sum(dim=1, keepdim=True)
        wide = torch.nn.functional.interpolate(course, found.waves.shape[1], mode="linear")
        return wide[:, 0].cpu().numpy().reshape(np.shape(inputs))

    def _taken(self, waves, sr: int | None) -> torch.Tensor:
        """Return waves as the model takes them, (batch, samples), on its device."""
        waves = torch.as_tensor(np.asarray(waves) if isinstance(waves, list) else waves)
        if not waves.is_floating_point():
            raise ValueError(
                f"waves are {waves.dtype}; give floating point numbers of full scale 1."
            )
        if waves.ndim == 3:
            if waves.shape[1] > 1:
                warnings.warn(f"{waves.shape[1]} channels are averaged to one", stacklevel=3)
            waves = waves.mean(dim=1)
        waves = waves[None] if waves.ndim == 1 else waves
        if waves.ndim != 2 or not waves.numel():
            raise ValueError(
                f"waves are {tuple(waves.shape)}; (samples,), (batch, samples) or (batch, "
                "channels, samples) is needed."
            )
        if not waves.isfinite().all():
            raise ValueError("waves hold values that are not finite.")
        if sr and sr != self.sr:
            resampled = [soxr.resample(one, sr, self.sr) for one in waves.double().cpu().numpy()]
            waves = torch.from_numpy(np.stack(resampled))
        if waves.shape[1] < self.asked.grid.n_fft:
            raise ValueError(
                f"waves have {waves.shape[1]} samples; at least a window of "
                f"{self.asked.grid.n_fft} is needed."
            )
        return waves.float().to(self.asked.device)

    def _windows(self, waves: torch.Tensor) -> list[torch.Tensor]:
        """Return the pieces that the model is given one after the other, the last one padded."""
        hop_length, n_samples = self.asked.grid.hop_length, waves.shape[1]
        n = hop_length * max(1, round((self.window_s or 0) * self.sr / hop_length))
        if not self.window_s or n_samples <= n:
            return [waves]
        return list(torch.nn.functional.pad(waves, (0, -n_samples % n)).split(n, dim=1))

    def listen(self, waves: torch.Tensor) -> torch.Tensor:
        """Return probabilities, (batch, classes): of long sounds the mean, by what pieces hold."""
        pieces = self._windows(waves)
        n = pieces[0].shape[1]
        lengths = [min(n, waves.shape[1] - start) for start in range(0, n * len(pieces), n)]
        heard = [self.asked.probabilities(self.asked.listen(one)) for one in pieces]
        return sum(n * one for n, one in zip(lengths, heard, strict=True)) / sum(lengths)

    def _joined(self, parts: tuple[torch.Tensor, ...], waves: torch.Tensor) -> torch.Tensor:
        """Put the pieces' maps together, (batch, bands, frames) of the whole sounds."""
        n_batches = -(-len(waves) // self.asked.batch_size)
        pieces = [torch.cat(parts[i : i + n_batches]) for i in range(0, len(parts), n_batches)]
        n_frames = self.asked.grid.shape(waves.shape[1])[1]
        if len(pieces) > 1:  # each has a frame of its own at its end
            pieces = [*(one[:, :, :-1] for one in pieces[:-1]), pieces[-1]]
        return torch.cat(pieces, dim=2)[:, :, :n_frames]

    def _targets(self, target, given: torch.Tensor) -> torch.Tensor:
        if target is None:
            return given.argmax(dim=1)
        targets = torch.as_tensor(target, device=given.device).reshape(-1)
        targets = targets.expand(len(given)) if len(targets) == 1 else targets
        n_classes = given.shape[1]
        inside = bool(((targets >= 0) & (targets < n_classes)).all())
        if len(targets) != len(given) or targets.is_floating_point() or not inside:
            raise ValueError(
                f"target={target!r}; a class of 0 to {n_classes - 1} is needed, or one for each "
                f"of {len(given)} sounds."
            )
        return targets.long()


# --------------------------------------------------- how: of an explainer, waves, targets, seconds


def _mapped(relevance: torch.Tensor) -> Maps:
    """Make a mask of what speaks for the class, as of the study's rivals."""
    return relevance, Shape().mask(relevance.clamp_min(0))


def _equaliser(explainer: SoundExplainer, waves, targets, *_) -> Maps:
    relevance = gradient(explainer.asked, waves, targets)
    return relevance, sign_mask(relevance, halvings(relevance.shape[2]))


def _by_atoms(explainer: SoundExplainer, waves, targets, *_) -> Maps:
    """Keep the atoms that speak for the class, as the study's components."""
    if (dictionary := explainer.dictionary) is None:
        raise ValueError("attribute: method='dictionary' needs fit(waves, layer=...) first.")
    slope = gradient(explainer.asked, waves, targets)
    h, by_atom = any_layer.explain(explainer.asked, waves, targets, slope, dictionary)
    n_frames = slope.shape[2]
    mask = dictionary.mask(h, (by_atom > 0).float(), n_frames)
    mask = mask.pow(Choice.exponent).clamp_min(Choice.floor)
    return dictionary.spread(h, by_atom, n_frames), mask


def _by_own(method: Callable, explainer: SoundExplainer, waves, targets, *_) -> Maps:
    """Take relevance, or relevance and mask, from a function that somebody else wrote."""
    found = method(waves, targets)
    maps = found if isinstance(found, tuple) else (found,)
    needed = (len(waves), *explainer.asked.grid.shape(waves.shape[1]))
    for one in maps:
        if not torch.is_tensor(one) or one.shape != needed or not one.isfinite().all():
            seen = tuple(one.shape) if torch.is_tensor(one) else type(one).__name__
            raise ValueError(
                f"attribute: the method returned {seen}; finite relevance on the grid is needed, "
                f"{needed}, or a pair of relevance and mask."
            )
    if len(maps) == 1:
        return _mapped(maps[0].float())
    relevance, mask = maps
    if mask.min() < 0 or mask.max() > 1 + 1e-4:
        raise ValueError("attribute: the method's mask does not lie between 0 and 1.")
    return relevance, mask


METHODS: dict[str, Callable[..., Maps]] = {
    "integrated gradients": lambda one, *its: _mapped(integrated_gradients(one.asked, *its[:2])),
    "gradient": lambda one, *its: _mapped(gradient(one.asked, *its[:2])),
    "gradient equaliser": _equaliser,
    "dictionary": _by_atoms,
    "occlusion": lambda one, *its: _mapped(occlusion(one.asked, *its)),
}


def halvings(n_frames: int, times: int = 5) -> list[int]:
    """Return the frames that are left after one halving, two and so on, at least one.

    Examples
    --------
    >>> halvings(431)
    [215, 107, 53, 26, 13]
    """
    return [n_frames >> k for k in range(1, times + 1) if n_frames >> k]
