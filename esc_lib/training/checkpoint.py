"""Weights on disk: safetensors, tied to the settings they were trained with."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file

from esc_lib.config import Profile
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_device
from esc_lib.models.se_cnn import SECNN


def save(path: Path, model: SECNN, profile: Profile, class_names: list[str]) -> None:
    """Write weights as safetensors, with the settings they belong to."""
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"settings": _settings(profile, class_names)}
    write_atomically(path, lambda p: save_file(tensors, p, metadata=metadata))


def load(path: Path, profile: Profile, class_names: list[str]) -> SECNN:
    """Open weights written by :func:`save`, in evaluation mode on :func:`best_device`.

    Raises
    ------
    ValueError
        If the file is damaged, or was written for other settings or classes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {}).get("settings", "{}"))
    except SafetensorError as error:
        raise ValueError(f"load: checkpoint {path} is damaged ({error}); train again.") from None
    for key, value in json.loads(_settings(profile, class_names)).items():
        if saved.get(key) != value:
            raise ValueError(
                f"load: checkpoint {path} was made with another {key} than profile "
                f"{profile.name!r}; train again or choose the profile it belongs to."
            )
    model = SECNN(len(class_names), profile.network)
    model.load_state_dict(load_file(path))
    return model.eval().to(best_device(), memory_format=torch.channels_last)


def _settings(profile: Profile, class_names: list[str]) -> str:
    """Return what weights are tied to."""
    own = profile.as_dict()
    settings = {name: own[name] for name in ("front_end", "network")}
    return json.dumps(settings | {"class_names": class_names})
