"""How the spectrogram transformer is taught: every number, by profile."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How the small network is taught, first without labels and then with them."""

    folds: tuple[int, ...] = (1, 2, 3, 4, 5)  # for the test; an encoder is taught for each
    n_frames: int = 216  # of an excerpt: half a clip, as in the strong recipe's last stage
    # excerpts of a clip, as many as the strong recipe tests with: all are learned from without
    # labels, and tests average them
    views: int = 5

    # without labels: this share of the patches is hidden, in squares of so many (odd) a side
    hidden_share: float = 0.5
    hidden_cluster: int = 3  # single patches could be guessed from the edges of their neighbours
    pretraining_epochs: int = 40  # passes over all views of the training clips
    pretraining_batch: int = 32  # views of a step
    weight_decay: float = 0.02  # AdamW's, as in the strong recipe

    epochs: int = 100  # passes over the training clips, with labels
    learning_rate: float = 5e-4  # the highest of a rate that rises and falls once
    # the same where only the classifier learns: larger steps did better on validation clips
    classifier_rate: float = 3e-2
    full_batch: int = 16  # clips of a step of the full-size network that is timed; 0: none is


PROFILES = {
    # rehearses every step within seconds: the networks stay near guessing
    "demo": Settings(
        folds=(1,), n_frames=64, views=1, pretraining_epochs=2, epochs=1, full_batch=0
    ),
    # what a CPU affords: two folds, short excerpts
    "esc10": Settings(
        folds=(1, 2), n_frames=96, views=3, pretraining_epochs=10, epochs=30, full_batch=2
    ),
}


def of_profile(name: str) -> Settings:
    """Return the settings of a profile; those of a GPU if it has none of its own."""
    return PROFILES.get(name, Settings())
