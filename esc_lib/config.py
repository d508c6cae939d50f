"""Every number of the study: frozen settings, and the named profiles made of them."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class FrontEnd:
    """Settings of the log-mel front end, by default the thesis's; lengths in samples."""

    sr: int = 44_100  # Hz
    n_fft: int = 2048
    win_length: int = 2048  # of a Hann window
    hop_length: int = 512
    n_mels: int = 128  # Slaney scale, area-normalised: librosa's default
    f_min_hz: float = 20.0
    f_max_hz: float = 22_050.0
    n_frames: int = 431  # five seconds; what every spectrogram is cut or padded to
    top_db: float = 80.0  # floor below each clip's maximum; librosa's default for power_to_db

    @property
    def n_samples(self) -> int:
        """Samples that the kept frames can see: beyond them nothing changes the features."""
        return (self.n_frames - 1) * self.hop_length + self.n_fft // 2

    @property
    def frame_s(self) -> float:
        """Hop in seconds."""
        return self.hop_length / self.sr


@dataclass(frozen=True)
class Network:
    """Settings of the SE-CNN, by default the thesis's; a reduction of 0 leaves out the gates."""

    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    se_reduction: int = 8
    hidden: int = 2048
    dropout: float = 0.5


@dataclass(frozen=True)
class Augmentation:
    """What happens to training clips; the defaults are the thesis's (section 4.2.2).

    A random gain of the whole clip is missing on purpose: standardisation removes it.
    """

    probability: float = 0.3  # of noise, and independently of a time shift, per clip and epoch
    snr_db: float = 15.0
    # power falls as 1 / f**exponent: white, pink or brown, one drawn per clip
    noise_exponents: tuple[float, ...] = (0.0, 1.0, 2.0)
    max_shift: float = 0.2  # share of the clip's length, either way, not circular
    mixing: str = "mixup"  # blends spectrograms; "between_class" blends sounds, "none" nothing
    mix_alpha: float = 0.2  # both parameters of the blend's Beta distribution; 1 is uniform
    # largest change of speed at constant pitch, as a natural logarithm, drawn per batch
    max_stretch: float = 0.0
    max_mask: float = 0.0  # widest masked stripe, as a share of the bands; another of the frames
    # of a low- or high-pass, another gain in a segment, a cyclic shift: each per clip and epoch
    transform_probability: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the training in which the network sees excerpts of one length."""

    share: float = 1.0  # of the epochs
    crop_frames: int = 0  # of the excerpt drawn from each clip; 0: the whole clip


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the thesis's (section 4.6).

    What the thesis leaves open (patience, factor, Beta) is set here.
    """

    name: str = "thesis"
    batch_size: int = 32
    optimizer: str = "adam"  # or "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    # "plateau" lowers the rate when the validation loss stalls, stops early and keeps the best
    # validation epoch; "one_cycle" rises and falls once and keeps the last epoch, so that nothing
    # is chosen on validation clips
    schedule: str = "plateau"
    plateau_factor: float = 0.5
    plateau_patience: int = 8
    stop_patience: int = 60
    label_smoothing: float = 0.0
    ema_decay: float = 0.0  # per step, of the running mean of weights that is kept; 0: no mean
    stages: tuple[Stage, ...] = (Stage(),)
    test_crops: int = 1  # excerpts that a prediction averages; 1 reads the whole clip once
    augmentation: Augmentation = field(default_factory=Augmentation)


_STRONG = Recipe(
    "strong",
    batch_size=16,
    optimizer="adamw",
    weight_decay=0.02,
    schedule="one_cycle",
    label_smoothing=0.1,
    ema_decay=0.98,
    stages=(Stage(0.8, 128), Stage(0.2, 216)),  # 1.5 s, then 2.5 s of five
    test_crops=5,
    augmentation=Augmentation(probability=0.0, mix_alpha=1.0, max_stretch=0.2, max_mask=1 / 6),
)
# "strong" with the two levers that helped on ESC-50's validation clips (``recipe_search``)
_EXCERPTS_THEN_WHOLE = replace(
    _STRONG,
    name="excerpts then whole clips",
    stages=(Stage(0.8, 128), Stage(0.2, 0)),
    test_crops=1,
    augmentation=replace(_STRONG.augmentation, max_mask=0.0),
)
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (Recipe(), _STRONG, _EXCERPTS_THEN_WHOLE)
}


@dataclass(frozen=True)
class Training:
    """One training run: which recipe, for how long, on which clips, from which seed."""

    recipe: Recipe = RECIPES["strong"]
    epochs: int = 300  # the thesis's
    protocol: str = "source_grouped"
    validation_share: float = 0.2  # the thesis's
    seed: int = 0
    teachers: int = 0  # narrow networks of seeds 0, 1 ... on the same clips, whose mean is learned
    teacher_epochs: int = 0


@dataclass(frozen=True)
class Dictionaries:
    """Settings of the three constrained dictionaries; what the thesis leaves open is ours."""

    layer: str = "conv_block4"
    epochs: int = 200  # the thesis's, which does not say what an epoch is
    steps_per_epoch: int = 5  # of Adam
    trace_every: int = 20  # the thesis's pictures
    learning_rate: float = 0.2
    # weights of the smoothness penalty: the one with the least error on validation clips is taken
    smoothness: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Evidence:
    """How much of each comparison a profile affords; where it says 0 or None, the profile's own."""

    folds: tuple[int, ...] = (1, 2, 3, 4, 5)  # each with each of `seeds` and `recipes`
    seeds: tuple[int, ...] = (0, 1)
    recipes: tuple[str, ...] = ("thesis", "strong")
    # of the same networks where all clips outside the test fold train, as in published accuracies;
    # recipes that need validation are left out
    published_epochs: int = 0
    network: Network | None = None  # of the comparisons (protocols, ablation)
    epochs: int = 0  # of the comparisons
    peer_epochs: int = 0
    protocol_folds: tuple[int, ...] = (1, 2, 3, 4, 5)
    ablation_folds: tuple[int, ...] = (1, 2, 3, 4, 5)
    peer_folds: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Efficiency:
    """How smaller networks are made."""

    epochs: int = 10  # after pruning, and of a narrow network with and without a teacher
    keep: tuple[float, ...] = (0.75, 0.5)  # of the channels, in eighths: gates stay whole


@dataclass(frozen=True)
class Probing:
    """How closely a hidden layer, that of the dictionaries, is probed."""

    clips: int = 8  # test clips, evenly drawn, whose sound and maps are interfered with
    units: int = 32  # of a clip, whose atoms are taken out of its sound
    per_class: int = 5  # training clips of each class that say which units it needs
    widths: tuple[int, ...] = (1, 4)  # of the sparse bases, in channels
    # units of a sparse basis in a frame: the fewest of 4, 8, 16 that tell 95 % of the variance of
    # validation clips (narrow network, ESC-10, fold 1)
    active: int = 8
    steps: int = 1000  # of a sparse basis' training


@dataclass(frozen=True)
class Profile:
    """One way to run the study: data and its licence, front end, network and effort.

    `architecture` is "se_cnn", which `network` shapes, or a key of ``models.peers.PEERS``.
    """

    name: str
    dataset_label: str
    licence: str
    esc10_only: bool = False
    procedural: bool = False
    test_fold: int = 1
    front_end: FrontEnd = field(default_factory=FrontEnd)
    architecture: str = "se_cnn"
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    dictionaries: Dictionaries = field(default_factory=Dictionaries)
    evidence: Evidence = field(default_factory=Evidence)
    efficiency: Efficiency = field(default_factory=Efficiency)
    probing: Probing = field(default_factory=Probing)

    def as_dict(self) -> dict:
        """Return all settings as nested plain types, to be saved beside every artefact."""
        return asdict(self)


NARROW = Network(channels=(16, 32, 64, 128, 256), hidden=512)  # a quarter of the thesis's width
# the thesis's window and hop in seconds
_FRONT_END_16K = FrontEnd(sr=16_000, n_fft=1024, win_length=743, hop_length=186, f_max_hz=8_000.0)
_FRONT_END_DEMO = FrontEnd(
    sr=16_000, n_fft=1024, win_length=1024, hop_length=256, n_mels=64,
    f_max_hz=8_000.0, n_frames=188,  # three seconds
)  # fmt: skip

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(  # so small that all notebooks take minutes on two processor cores
            "demo",
            "procedural clips",
            "MIT",
            procedural=True,
            front_end=_FRONT_END_DEMO,
            network=Network(channels=(8, 16, 32, 64, 128), hidden=256),  # an eighth of the width
            training=Training(epochs=24),
            dictionaries=Dictionaries(steps_per_epoch=3),
            evidence=Evidence(
                folds=(1, 2),  # one has no spread
                seeds=(0,),
                recipes=("strong",),
                # a rehearsal: one epoch leaves networks near chance
                published_epochs=1,
                epochs=1,
                peer_epochs=1,
                protocol_folds=(1, 2),
                ablation_folds=(1,),
                peer_folds=(1,),
            ),
            efficiency=Efficiency(epochs=4, keep=(0.5,)),
            probing=Probing(clips=4, units=6, per_class=2, widths=(1,), steps=200),
        ),
        Profile(
            "esc10",
            "ESC-10, 44.1 kHz",
            "CC BY 3.0",
            esc10_only=True,
            training=Training(epochs=40),
            evidence=Evidence(
                seeds=(0,),
                recipes=("strong",),
                published_epochs=80,  # as many as there were hours for
                network=NARROW,
                ablation_folds=(1, 2),
            ),
            efficiency=Efficiency(keep=(0.5,)),
        ),
        Profile("esc50", "ESC-50, 44.1 kHz", "CC BY-NC 3.0"),
        Profile(
            "esc50-16k",
            "ESC-50, 16 kHz 8-bit copy",
            "CC BY-NC 3.0",
            front_end=_FRONT_END_16K,
            # of recipe_search, for as long as there were hours
            training=Training(recipe=_EXCERPTS_THEN_WHOLE, epochs=120),
            evidence=Evidence(
                seeds=(0,), recipes=(_EXCERPTS_THEN_WHOLE.name,), network=NARROW, peer_folds=(1, 2)
            ),
        ),
    )
}


def variant(settings, **changes):
    """Return settings with changes, each made where it belongs: here, or in a part of these.

    Examples
    --------
    >>> changed = variant(PROFILES["demo"], test_fold=2, seed=1, batch_size=8, mixing="none")
    >>> changed.training.seed, changed.training.recipe.augmentation.mixing
    (1, 'none')
    """
    for part in ("training", "recipe", "augmentation"):
        if hasattr(settings, part):
            inner = {key: changes.pop(key) for key in list(changes) if not hasattr(settings, key)}
            changes[part] = variant(changes.get(part, getattr(settings, part)), **inner)
    return replace(settings, **changes)


def shortened(settings, epochs: int):
    """Return settings, of a profile or a companion, whose every training takes so many epochs.

    0 leaves them as they are. Where settings say 0, for another's number, they still do.
    Dictionaries, whose epochs are a few steps each, keep theirs.

    Raises
    ------
    ValueError
        If `epochs` is no whole number from 0 on.

    Examples
    --------
    >>> short = shortened(PROFILES["esc10"], 3)
    >>> short.training.epochs, short.efficiency.epochs, short.evidence.peer_epochs
    (3, 3, 0)
    """
    if type(epochs) is not int or epochs < 0:
        raise ValueError(f"shortened: epochs={epochs!r} is no whole number from 0 on.")
    if not epochs:
        return settings
    changes = {f.name: epochs for f in fields(settings)
               if f.name.endswith("epochs") and getattr(settings, f.name)}  # fmt: skip
    for part in ("training", "evidence", "efficiency"):
        if hasattr(settings, part):
            changes[part] = shortened(getattr(settings, part), epochs)
    return replace(settings, **changes)


def restore(kind: type, saved: dict):
    """Return the settings that were saved as nested plain types.

    Fields that are younger than the save have their defaults, those that are gone are left out.

    Raises
    ------
    ValueError
        If a value is of another type than its field, or one is missing.

    Examples
    --------
    >>> restore(Stage, {"share": 0.5, "gone": 1})
    Stage(share=0.5, crop_frames=0)
    """
    kinds = get_type_hints(kind)

    def value_of(kind, value):
        if is_dataclass(kind):
            return restore(kind, value)
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            return tuple(value_of(get_args(kind)[0], each) for each in value)
        if get_origin(kind) is UnionType:
            return None if value is None else value_of(get_args(kind)[0], value)
        if type(value) not in ((int, float) if kind is float else (kind,)):
            raise ValueError(f"restore: {value!r} where {kind} is expected.")
        return value

    if not isinstance(saved, dict):
        raise ValueError(f"restore: {saved!r} where settings are expected.")
    known = {field.name for field in fields(kind)}
    try:
        return kind(**{k: value_of(kinds[k], v) for k, v in saved.items() if k in known})
    except TypeError as error:
        raise ValueError(f"restore: {error}.") from None


def get_profile(name: str) -> Profile:
    """Return the profile called `name`.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    return _get("profile", name, PROFILES)


def get_recipe(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises
    ------
    ValueError
        If there is no such recipe.
    """
    return _get("recipe", name, RECIPES)


def _get(kind: str, name: str, every: dict):
    if name not in every:
        raise ValueError(
            f"get_{kind}: {kind}={name!r} is unknown; choose one of {', '.join(every)}."
        )
    return every[name]
