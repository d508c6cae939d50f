"""How the spectrogram transformer is taught: every number, by profile."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How the small network is taught, first without labels and then with them.

    Attributes
    ----------
    folds : tuple of int, test folds; an encoder is taught for each.
    n_frames : int, frames of an excerpt.
    views : int, excerpts of a clip: all are learned from without labels, and tests average them.
    hidden_share, hidden_cluster : without labels, this share of the patches is hidden, in squares
        of so many (odd) patches a side.
    pretraining_epochs, pretraining_batch : int, passes over all views of the training clips,
        without labels, and views of a step.
    weight_decay : float, AdamW's without labels.
    epochs : int, passes over the training clips, with labels.
    learning_rate : float, the highest of a rate that rises and falls once, where layers learn.
    classifier_rate : float, the same where only the classifier learns.
    full_batch : int, clips of a step of the full-size network that is timed; 0: none is.
    """

    folds: tuple[int, ...] = (1, 2, 3, 4, 5)
    n_frames: int = 216  # half a clip, as in the strong recipe's last stage
    views: int = 5  # as many as the strong recipe tests with
    hidden_share: float = 0.5
    hidden_cluster: int = 3  # single patches could be guessed from the edges of their neighbours
    pretraining_epochs: int = 40
    pretraining_batch: int = 32
    weight_decay: float = 0.02  # as in the strong recipe
    epochs: int = 100
    learning_rate: float = 5e-4
    classifier_rate: float = 3e-2  # larger steps did better on validation clips
    full_batch: int = 16


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
