"""Every number of the study: frozen settings, and the named profiles made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class FrontEnd:
    """Settings of the log-mel front end; time-frequency lengths in samples.

    Attributes
    ----------
    sr : int
        Sample rate in Hz.
    n_fft, win_length, hop_length : int
        FFT length, Hann window length and hop in samples.
    n_mels : int
        Number of mel bands (Slaney scale, area-normalised, as librosa's default).
    f_min_hz, f_max_hz : float
        Edges of the filter bank in Hz.
    n_frames : int
        Frames every spectrogram is cut or padded to.
    top_db : float
        Floor below each clip's maximum in dB (librosa's default for ``power_to_db``).
    """

    sr: int = 44_100
    n_fft: int = 2048
    win_length: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    f_min_hz: float = 20.0
    f_max_hz: float = 22_050.0
    n_frames: int = 431
    top_db: float = 80.0

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
    """Settings of the SE-CNN; the defaults are the thesis's network."""

    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    se_reduction: int = 8
    hidden: int = 2048
    dropout: float = 0.5


@dataclass(frozen=True)
class Augmentation:
    """Thesis section 4.2.2: noise and time shift, independently, on training clips only.

    Attributes
    ----------
    probability : float
        Chance of each augmentation per clip and epoch.
    snr_db : float
        Signal-to-noise ratio of the added noise in dB.
    noise_exponents : tuple of float
        Power falls as 1 / f**exponent: 0 white, 1 pink, 2 brown; one is drawn per clip.
    max_shift : float
        Largest shift as a share of the clip's length; the shift is not circular.
    mixup_alpha : float
        Both parameters of mixup's Beta distribution; 0 switches mixup off.
    """

    probability: float = 0.3
    snr_db: float = 15.0
    noise_exponents: tuple[float, ...] = (0.0, 1.0, 2.0)
    max_shift: float = 0.2
    mixup_alpha: float = 0.2


@dataclass(frozen=True)
class Training:
    """Thesis section 4.6; what it leaves open (patience, factor) is set here."""

    epochs: int = 300
    batch_size: int = 32
    learning_rate: float = 1e-3
    plateau_factor: float = 0.5
    plateau_patience: int = 8
    stop_patience: int = 60
    validation_share: float = 0.2
    protocol: str = "source_grouped"
    seed: int = 0


@dataclass(frozen=True)
class Dictionaries:
    """Settings of the three constrained dictionaries; an epoch is ``steps_per_epoch`` Adam steps.

    The thesis gives the number of epochs and the trace interval; the rest is ours.
    """

    layer: str = "conv_block4"
    epochs: int = 200
    steps_per_epoch: int = 5
    trace_every: int = 20
    learning_rate: float = 0.05
    smoothness: float = 1e-3


@dataclass(frozen=True)
class Profile:
    """One way to run the study: data and its licence, front end, network and effort."""

    name: str
    dataset_label: str
    licence: str
    esc10_only: bool = False
    procedural: bool = False
    test_fold: int = 1
    front_end: FrontEnd = field(default_factory=FrontEnd)
    network: Network = field(default_factory=Network)
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: Training = field(default_factory=Training)
    dictionaries: Dictionaries = field(default_factory=Dictionaries)

    def as_dict(self) -> dict:
        """Return all settings as nested plain types, to be saved beside every artefact."""
        return asdict(self)


_FRONT_END_16K = FrontEnd(
    sr=16_000, n_fft=1024, win_length=743, hop_length=186, f_max_hz=8_000.0
)
_FRONT_END_DEMO = FrontEnd(
    sr=16_000, n_fft=1024, win_length=1024, hop_length=256, n_mels=64,
    f_max_hz=8_000.0, n_frames=188,
)  # fmt: skip

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "demo",
            "procedural clips",
            "MIT",
            procedural=True,
            front_end=_FRONT_END_DEMO,
            network=Network(channels=(8, 16, 32, 64, 128), hidden=256),
            training=Training(epochs=30, plateau_patience=4, stop_patience=30),
        ),
        Profile(
            "esc10",
            "ESC-10, 44.1 kHz",
            "CC BY 3.0",
            esc10_only=True,
            training=Training(epochs=100),
        ),
        Profile("esc50", "ESC-50, 44.1 kHz", "CC BY-NC 3.0"),
        Profile(
            "esc50-16k", "ESC-50, 16 kHz 8-bit copy", "CC BY-NC 3.0", front_end=_FRONT_END_16K
        ),
    )
}


def get_profile(name: str) -> Profile:
    """Return the profile called `name`.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(
            f"get_profile: profile={name!r} is unknown; choose one of {', '.join(PROFILES)}."
        )
    return PROFILES[name]
