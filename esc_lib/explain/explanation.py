"""What an explanation of one's own model offers: sounds, pictures, scores."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from esc_lib.explain import any_layer
from esc_lib.explain.any_layer import LayerDictionary
from esc_lib.explain.asked import Asked, gradient
from esc_lib.explain.masks import in_random_places
from esc_lib.explain.relevance import of_target
from esc_lib.explain.scores import FIVE, GAIN, kept_energy


@dataclass(eq=False)
class Explanation:
    """Why sounds were given a class: to be heard, seen and judged."""

    asked: Asked = field(repr=False)
    listen: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)  # sounds to probabilities
    names: list[str] | None = field(repr=False)  # of the classes
    dictionary: LayerDictionary | None = field(repr=False)
    waves: torch.Tensor = field(repr=False)  # (batch, samples), as the model heard them
    targets: torch.Tensor  # int, (batch,), the classes explained
    probabilities: torch.Tensor = field(repr=False)  # (batch, classes)
    method: str
    relevance: torch.Tensor = field(repr=False)  # (batch, bands, frames), signed
    mask: torch.Tensor = field(repr=False)  # (batch, bands, frames), in [0, 1]

    @property
    def sound(self) -> torch.Tensor:
        """What the mask keeps, (batch, samples)."""
        return self.asked.grid.apply(self.waves, self.mask)

    @property
    def remainder(self) -> torch.Tensor:
        """What the mask takes out, (batch, samples): both add up to the sound."""
        return self.waves - self.sound

    def parts(self, n: int = 5) -> torch.Tensor:
        """Return the sounds of the n atoms that speak most for the class, (batch, n, samples).

        Raises
        ------
        ValueError
            If the method has no atoms.
        """
        if self.method != "dictionary":
            raise ValueError(f"parts: {self.method!r} has no atoms; use method='dictionary'.")
        given = self.asked, self.waves, self.targets
        h, relevance = any_layer.explain(*given, gradient(*given), self.dictionary)
        best = relevance.sum(dim=2).topk(min(n, relevance.shape[1]), dim=1).indices
        sounds = []
        for place in range(best.shape[1]):
            keep = torch.zeros_like(h).scatter_(1, best[:, place, None, None].expand_as(h), 1.0)
            mask = self.dictionary.mask(h, keep, self.mask.shape[2])
            sounds.append(self.asked.grid.apply(self.waves, mask))
        return torch.stack(sounds, dim=1)

    def score(self) -> pd.DataFrame:
        """Return what the model makes of what is kept, beside controls: means over sounds.

        Columns: AI, AD, AG, FF, Fid-In, see notebook 08; gain, by how much the log-odds of the
        class rise; energy, kept of the sound's. Controls have the mask's own values: everywhere
        their mean, and in random places, smoothly.
        """
        tables = {self.method: self.mask}
        tables["control: constant"] = self.mask.mean(dim=(1, 2), keepdim=True).expand_as(self.mask)
        tables["control: random places"] = in_random_places(self.mask)
        rows = {}
        for name, mask in tables.items():
            judged = self._judged(mask)
            rows[name] = {score.name: float(np.mean(score(judged))) for score in (*FIVE, GAIN)}
            rows[name]["energy"] = float(judged.energy.mean())
        return pd.DataFrame.from_dict(rows, orient="index")

    def show(self):
        """Return players of sound, explanation and remainder over their spectrograms."""
        from esc_lib.figures.html import player

        names = self.names
        classes = [names[i] if names else f"class {i}" for i in self.targets.tolist()]
        shares = [float(p) for p in of_target(self.probabilities, self.targets)]
        titles = [f"{name} ({share:.2f})" for name, share in zip(classes, shares, strict=True)]
        columns = [self.waves, self.sound, self.remainder]
        headings = ["sound", "explanation", "remainder"]
        return player.on_grid(self.asked.grid, columns, titles, headings)

    def _judged(self, mask: torch.Tensor) -> pd.DataFrame:
        """Return what the model makes of a mask, as ``judge.judge``, a row per sound."""
        kept = self.asked.grid.apply(self.waves, mask)
        inside, outside = (self.listen(each) for each in (kept, self.waves - kept))
        found = {
            name: of_target(each, self.targets).double().round(decimals=4)  # or rounding is a gain
            for name, each in (("p", self.probabilities), ("o", inside), ("m", outside))
        }
        found["same"] = inside.argmax(dim=1) == self.probabilities.argmax(dim=1)
        found["energy"] = kept_energy(kept, self.waves)
        return pd.DataFrame({name: each.cpu().numpy() for name, each in found.items()})
