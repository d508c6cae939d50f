"""The folder that holds a profile's clips, made or fetched if need be."""

from pathlib import Path

from esc_lib.config import get_profile
from esc_lib.data import demo, esc50


def prepare(profile_name: str, data_folder: str | Path | None = None) -> Path:
    """Return a folder in the official layout, ``audio/`` and ``meta/esc50.csv``, for a profile.

    Without a `data_folder` of one's own the procedural clips are written to ``data/demo``, and
    ESC-50 is downloaded to ``data/ESC-50-master``.

    Raises
    ------
    ValueError, OSError : with one sentence, the folder is not in the layout or the download fails.
    """
    profile = get_profile(profile_name)
    cache = Path(__file__).resolve().parents[2] / "data"
    if data_folder:
        folder = Path(data_folder)
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
    esc50.read_clips(folder, esc10_only=profile.esc10_only)
    return folder
