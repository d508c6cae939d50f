"""Settings of the binaural transformer and of its study, by profile."""

from dataclasses import dataclass

from esc_lib.companions.binaural.losses import LOSSES
from esc_lib.companions.binaural.spectrograms import BINS, FRAMES

FUSIONS = ("subtract", "add", "concatenate")


@dataclass(frozen=True)
class Settings:
    """How a BAST is built and trained, and what it is compared with.

    Sizes and training are the published ones by default, except where the scenes come in, which
    the authors recorded. Variants are made with ``dataclasses.replace``.
    """

    width: int = 1024
    layers: int = 3  # of each of the three encoders
    heads: int = 16
    head_width: int = 64
    hidden: int = 1024  # width of the two-layer network behind the attention
    patch: int = 16  # side of a square patch, in bins and frames
    stride: int = 6  # from one patch to the next
    dropout: float = 0.2
    fusion: str = "subtract"  # what the central encoder reads of the ears, one of FUSIONS
    shared: bool = False  # one encoder reads both ears (SP in the paper) instead of one each (NSP)
    loss: str = "hybrid"  # one of LOSSES
    epochs: int = 20
    batch_size: int = 48
    per_excerpt: int = 4  # scenes that an epoch makes of each excerpt
    learning_rate: float = 1e-4  # the highest of a one-cycle schedule; the authors' is constant
    seed: int = 0

    excerpts: int = 4  # half seconds cut from each clip
    step_deg: int = 1  # between the directions of the spherical head
    azimuths: int = 36  # of the sounds, evenly around the head
    seats: int = 6  # places of the head in the hall that training hears
    new_seats: int = 2  # further ones for the test
    variants: tuple[tuple[str, bool, str], ...] = (  # fusion, shared and loss, compared
        ("subtract", False, "hybrid"), ("subtract", False, "squared"),
        ("subtract", False, "angular"), ("add", False, "hybrid"),
        ("concatenate", False, "hybrid"), ("subtract", True, "hybrid"), ("add", True, "hybrid"),
    )  # fmt: skip
    variant_epochs: int = 5
    cue_rounds: int = 8  # scenes of each excerpt that the rivals learn from
    test_rounds: int = 1  # and that all are judged by
    masked: int = 400  # scenes in which places are hidden

    def __post_init__(self):
        for name, known in (("fusion", FUSIONS), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Settings: {name}={getattr(self, name)!r}, expected one of {', '.join(known)}."
                )
        if min(BINS, FRAMES) < self.patch:
            raise ValueError(
                f"Settings: a patch of {self.patch} does not fit in {BINS} bins x {FRAMES} frames; "
                "choose a smaller patch."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency and time: the last ones reach over the edge if need be."""
        return tuple(-(-(size - self.patch) // self.stride) + 1 for size in (BINS, FRAMES))

    @property
    def padding(self) -> tuple[int, int]:
        """Bins and frames that the last patches reach over the edge."""
        ends = ((n - 1) * self.stride + self.patch for n in self.grid)
        return tuple(end - size for end, size in zip(ends, (BINS, FRAMES), strict=True))


_PROFILES = {
    "demo": Settings(
        width=32, layers=1, heads=2, head_width=16, hidden=32,  # seconds on a processor
        stride=16,  # patches side by side: 36 instead of 180
        dropout=0.0,  # every epoch has other scenes, which so small a network cannot learn by heart
        epochs=3, per_excerpt=6,
        learning_rate=3e-3,  # few and narrow layers bear larger steps
        seats=2, new_seats=1, excerpts=1, step_deg=5,  # responses of a seat take seconds
        variants=(("subtract", False, "hybrid"), ("add", True, "squared")), variant_epochs=1,
        cue_rounds=4, test_rounds=4, masked=60,  # one excerpt of each of 80 test clips
    ),
    "esc10": Settings(
        width=64, heads=4, head_width=16, hidden=64,  # an hour on one thread
        stride=16, dropout=0.0,  # as in "demo"
        shared=True, epochs=100, learning_rate=2e-3,  # fixed beforehand on validation scenes
        excerpts=8,
        variants=(
            ("subtract", True, "hybrid"), ("subtract", True, "squared"),
            ("subtract", True, "angular"), ("subtract", False, "hybrid"),
            ("add", False, "hybrid"), ("concatenate", False, "hybrid"),
        ),
        variant_epochs=3,
    ),
}  # fmt: skip


def of_profile(name: str) -> Settings:
    """Return the settings of a profile; where it has none of its own, the published ones."""
    return _PROFILES.get(name, Settings())
