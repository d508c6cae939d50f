"""The folder that holds a profile's clips, made or fetched if need be."""

from pathlib import Path

from esc_lib.config import get_profile
from esc_lib.data import demo, esc50
from esc_lib.data.splits import check
from esc_lib.data.table import read_clips


def prepare(profile_name: str, data_folder: str | Path | None = None) -> Path:
    """Return a folder in the official layout, ``audio/`` and ``meta/esc50.csv``, for a profile.

    Without a `data_folder` of one's own the procedural clips are written to ``data/demo``, and
    ESC-50 is downloaded to ``data/ESC-50``.

    Raises
    ------
    ValueError, OSError : with one sentence, the folder is not in the layout, its clips cannot be
        split as the study splits them, or the download fails.
    """
    profile = get_profile(profile_name)
    cache = Path(__file__).resolve().parents[2] / "data"
    if data_folder:
        folder = Path(str(data_folder)).expanduser()
    elif profile.procedural:
        front_end = profile.front_end
        clip_s = (front_end.n_frames - 1) * front_end.hop_length / front_end.sr
        folder = demo.write(cache / "demo", sr=front_end.sr, clip_s=round(clip_s, 1))
    elif profile.name == "esc50-16k":
        raise ValueError(
            "prepare: profile 'esc50-16k' has nothing to download; "
            "give the folder of the 16 kHz copy as DATA=folder."
        )
    else:
        folder = esc50.fetch(cache)
    clips = read_clips(folder, esc10_only=profile.esc10_only)
    check(clips, profile.test_fold, profile.training.validation_share)
    return folder
