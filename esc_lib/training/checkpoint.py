"""Weights on disk: safetensors, tied to the settings they were trained with."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import safe_open, save_file

from esc_lib.config import Network, Profile
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_device
from esc_lib.machine.reading import refuse
from esc_lib.models.se_cnn import SECNN

Tensors = dict[str, torch.Tensor]


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
    saved, tensors = read(path)
    for key, value in json.loads(_settings(profile, class_names)).items():
        if saved.get(key) != value:
            raise ValueError(
                f"load: checkpoint {path} was made with another {key} than profile "
                f"{profile.name!r}; train again or choose the profile it belongs to."
            )
    model = network(path, tensors, len(class_names), profile.network)
    return model.to(best_device(), memory_format=torch.channels_last)


def read(path: Path) -> tuple[dict, Tensors]:
    """Return the settings and the weights of a file that :func:`save`, or anybody else, wrote.

    Raises
    ------
    ValueError
        If it is damaged, names no settings, or holds a weight that is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            saved = json.loads((file.metadata() or {}).get("settings", "null"))
    except (SafetensorError, ValueError, RecursionError) as error:
        refuse(path, f"is damaged ({error})")
    if not isinstance(saved, dict):
        refuse(path, "names no settings")
    for name, values in tensors.items():
        if values.is_floating_point() and not values.float().isfinite().all():
            refuse(path, f"holds NaN or infinity in {name}")
    return saved, tensors


def network(path: Path, tensors: Tensors, n_classes: int, settings: Network) -> SECNN:
    """Return the network of these weights, in evaluation mode.

    The weights are compared with the network that the settings describe before it takes memory.

    Raises
    ------
    ValueError
        If they are not its weights.
    """
    try:
        with torch.device("meta"):
            expected = SECNN(n_classes, settings).state_dict()
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        refuse(path, f"was made with settings of no network ({error})")
    for name in sorted({*expected, *tensors}):
        own, found = (_shape(each.get(name)) for each in (expected, tensors))
        if own != found:
            refuse(path, f"has {name} of {found}, expected {own}")
    model = SECNN(n_classes, settings)
    model.load_state_dict(tensors)
    return model.eval()


def _shape(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "no shape"
    return f"{'' if tensor.is_floating_point() else 'whole '}{tuple(tensor.shape)}"


def _settings(profile: Profile, class_names: list[str]) -> str:
    """Return what weights are tied to."""
    own = profile.as_dict()
    settings = {name: own[name] for name in ("front_end", "network")}
    return json.dumps(settings | {"class_names": class_names})
