"""Every number of the cross-modal study; variants are made by ``dataclasses.replace``."""

from dataclasses import dataclass

from esc_lib.config import get_profile

DIRECTIONS = ("S2I", "I2S")  # sound to image, image to sound
FIRST = 64  # channels of the stage where the published network has its attention


@dataclass(frozen=True)
class Settings:
    """One training, and from `seeds` on which of them the study makes and how it judges them.

    The defaults are published ones, as far as there are any.
    """

    direction: str = "S2I"  # or I2S
    attention: int | None = FIRST  # channels of the stage followed by self-attention, or None
    augmentation: float = 0.0  # how strongly the encoder's pictures are changed; published: not
    # codes per input that the generator learns from: that of the picture itself, as published, and
    # those of pictures changed by `augmentation`
    code_views: int = 1
    seed: int = 0
    width: float = 1.0  # factor on all channels
    pool: int = 1  # attention looks at maxima of so many places a side; published: at all places
    steps: int = 12_000  # of generator and discriminator against each other
    classifier_steps: int = 8_000  # of the encoder before
    batch: int = 64  # pairs
    learning_rate: float = 1e-4  # of the discriminator
    generator_rate: float = 5e-4
    critic_every: int = 2  # the discriminator is trained on every so many steps
    encoder_rate: float = 1e-3  # its peak: ours, Adam's usual one; published: 1e-4 throughout
    log_every: int = 10  # steps that a row of the history is the mean of

    seeds: tuple[int, ...] = (0, 1)  # of both directions, with and without attention
    # where else attention is put, for sound to image and the first seed; it sees all places there
    stages: tuple[int, ...] = (128, 256, 512)
    augmentations: tuple[float, ...] = (0.0, 1.0)  # strengths among which validation chooses
    # so many codes at least: where there are fewer inputs, changed ones give the rest. 8000 are
    # three changed pictures beside each of 2000 spoken digits; published: 0
    codes: int = 8000
    validation_steps: int = 1500  # a fifth: only the order of the strengths counts
    judge_steps: int = 400  # by then 98 % of held-out handwritten digits are right
    clips: int = 80  # procedural sounds per class, and images: two of each player
    players: int = 40  # 12 of them held out

    @property
    def name(self) -> str:
        """Return what a table of one direction calls this training."""
        kind = f"attention at {self.attention}" if self.attention else "without attention"
        views = "" if self.code_views == 1 else f", {self.code_views} codes"
        return f"{kind}{views}, seed {self.seed}"

    def of_training(self) -> dict:
        """Return what decides this training: all but what plans others and judges them."""
        return {name: value for name, value in vars(self).items() if name not in _PLAN}


_PLAN = ("seeds", "stages", "augmentations", "codes", "validation_steps", "judge_steps", "clips",
         "players")  # fmt: skip

OF_PROFILE = {
    "demo": Settings(
        width=0.125,  # no stage has less than 8 channels: the narrowest
        pool=8,  # 32 x 32 places look at 4 x 4
        steps=100,  # every part runs, in seconds; little is learned
        classifier_steps=60,
        batch=16,
        learning_rate=1e-3,  # few steps, so large ones
        generator_rate=1e-3,
        seeds=(0,),
        stages=(512,),  # the cheapest stage
        codes=400,
        validation_steps=20,
        judge_steps=60,
        clips=16,  # two of each player
        players=8,
    ),
    "esc10": Settings(
        width=0.125,  # all trainings take an hour on two cores
        pool=4,  # 32 x 32 places look at 8 x 8
        steps=1500,  # an eighth of the published ones
        classifier_steps=1500,
        batch=32,
        learning_rate=4e-4,  # fewer steps, so larger ones
        validation_steps=1000,
    ),
}


def of_profile(name: str) -> Settings:
    """Return a profile's settings: the published size where it has none of its own."""
    return OF_PROFILE.get(get_profile(name).name, Settings())
