"""Explanations judged by the sound a mask makes: what is heard is what the network is given."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from esc_lib.explain import scores
from esc_lib.explain.conditions import BATCH
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.masks import both_sides, cut_out
from esc_lib.explain.relevance import of_target
from esc_lib.explain.second_judges import log_odds

LIKELY = 5  # a class to be argued for wrongly is drawn outside the network's first five
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)  # of a clip's energy that come, or go, most relevant first


def judge(explainer: Explainer, mask: torch.Tensor) -> pd.DataFrame:
    """Return what the network makes of what masks, (clips, mel, frames), keep and remove, by clip.

    Columns: p, o, m; same, whether the decision stays; energy, kept of the input's; sparseness,
    complexity. For each second judge: gain, by how much its log-odds of the explained class rise
    from the clip to what is kept, and class, what it decides then, as "gain <judge>" and so on.
    Of a mixture, where the class explained is that of one of its sounds: si_sdr in dB of what is
    kept, and si_sdr_input of the mixture, against that sound; precision of the mask's values
    against the points in which that sound is the louder one, louder, the share of these points, and
    pointed, whether the mask's highest value is at one.
    """
    _ = explainer.given, explainer.heard  # once for all masks
    parts = torch.arange(len(mask)).split(BATCH)
    found = [_judge(explainer.part(places), mask[places]) for places in parts]
    return pd.concat(found, ignore_index=True)


def _judge(explainer: Explainer, mask: torch.Tensor) -> pd.DataFrame:
    """Judge as many clips as sounds are made of at a time."""
    inputs, targets, given = explainer.inputs, explainer.targets, explainer.given
    kept, removed = both_sides(explainer.front_end, inputs.waveforms, mask)
    inside, outside = explainer.probabilities(kept), explainer.probabilities(removed)

    found = {
        "p": of_target(given, targets).double(),
        "o": of_target(inside, targets).double(),
        "m": of_target(outside, targets).double(),
        "same": inside.argmax(dim=1) == targets,
        "energy": scores.kept_energy(kept, inputs.waveforms),
        "sparseness": scores.sparseness(mask),
        "complexity": scores.complexity(mask),
    }
    for name, ask in explainer.judges.items():
        after = ask(kept, inputs.n_valid)
        before = log_odds(explainer.heard[name])
        rise = of_target(log_odds(after), targets) - of_target(before, targets)
        found |= {f"gain {name}": rise, f"class {name}": after.argmax(dim=1)}
    if inputs.wanted is not None:
        found |= _truth(explainer, mask, kept)
    return pd.DataFrame({name: values.cpu().numpy() for name, values in found.items()})


def _truth(
    explainer: Explainer, mask: torch.Tensor, kept: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Compare with the sound that the explained class is the class of, NaN where it is of none."""
    inputs, front_end = explainer.inputs, explainer.front_end
    sound, other = inputs.sound_of(explainer.targets)
    power, against = (front_end.mel_power(one) for one in (sound, other))
    level, floor = power + against, 10 ** (-front_end.settings.top_db / 10)
    heard = level > floor * level.amax(dim=(1, 2), keepdim=True)
    louder = (power > against) & heard
    values = mask.masked_fill(~heard, -1)
    top = values.flatten(1).argmax(dim=1, keepdim=True)
    found = {
        "si_sdr": scores.si_sdr(kept, sound),
        "si_sdr_input": scores.si_sdr(inputs.waveforms, sound),
        "precision": scores.average_precision(mask, louder, heard),
        "louder": louder.sum(dim=(1, 2)) / heard.sum(dim=(1, 2)),
        "pointed": louder.flatten(1).gather(1, top)[:, 0].float(),
    }
    known = inputs.has(explainer.targets)
    return {name: values.float().where(known, torch.nan) for name, values in found.items()}


def specificity(
    explainer: Explainer, masks: Callable[[Explainer], torch.Tensor], seed: int = 0
) -> pd.DataFrame:
    """Ask for a class that is wrong, drawn outside the network's first `LIKELY`, by clip.

    Columns: gain_wrong, by how much the log-odds of that class rise from the clip to what its own
    mask keeps, and turned, whether that class is then decided for.
    """
    given, generator = explainer.given, torch.Generator().manual_seed(seed)
    order = given.argsort(dim=1, descending=True)
    first = min(LIKELY, given.shape[1] - 1)
    draw = torch.randint(first, given.shape[1], (len(given), 1), generator=generator)
    wrong = order.gather(1, draw.to(order.device))[:, 0]
    asked = explainer.asked_for(wrong)
    kept = cut_out(explainer.front_end, explainer.inputs.waveforms, masks(asked))
    after = explainer.probabilities(kept)
    rise = of_target(log_odds(after), wrong) - of_target(log_odds(given), wrong)
    turned = after.argmax(dim=1) == wrong
    return pd.DataFrame({"gain_wrong": rise.cpu().numpy(), "turned": turned.cpu().numpy()})


def budget(explainer: Explainer, heat: torch.Tensor) -> pd.DataFrame:
    """Keep, and remove, the points that hold shares of the energy, most relevant first.

    Heat is (clips, mel, frames). A row per clip and share of `SHARES`: clip, share, kept and lost,
    the change of the class's log-odds when only these points are left and when they are gone, and
    stays, whether the decision stays on what is left.
    """
    targets, waveforms, rows = explainer.targets, explainer.inputs.waveforms, []
    before = of_target(log_odds(explainer.given), targets)
    for share, mask in zip(SHARES, by_energy(explainer, heat, SHARES), strict=True):
        sounds = both_sides(explainer.front_end, waveforms, mask)
        left, rest = (explainer.probabilities(sound) for sound in sounds)
        kept, lost = (of_target(log_odds(each), targets) - before for each in (left, rest))
        stays = left.argmax(dim=1) == targets
        columns = {"kept": kept, "lost": lost, "stays": stays}
        table = pd.DataFrame({name: x.cpu().numpy() for name, x in columns.items()})
        rows.append(table.assign(clip=np.arange(len(table)), share=share))
    return pd.concat(rows, ignore_index=True)


def by_energy(
    explainer: Explainer, heat: torch.Tensor, shares: Sequence[float]
) -> Iterator[torch.Tensor]:
    """Yield, for each share, 1 at the points of highest heat that hold it of a clip's energy.

    Ties come in a random order, the same for all shares.
    """
    power = explainer.power.flatten(1)
    generator = torch.Generator().manual_seed(0)
    shuffle = torch.randperm(power.shape[1], generator=generator).to(power.device)
    order = shuffle[heat.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    held = power.gather(1, order).cumsum(dim=1)
    for share in shares:
        inside = (held <= share * held[:, -1:]).float()
        yield torch.zeros_like(power).scatter_(1, order, inside).reshape(heat.shape)
