"""Trained cross-modal networks on disk: safetensors with their settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file

from esc_lib.companions.crossmodal.pairs import PairSet
from esc_lib.companions.crossmodal.training import Settings, Trained, build
from esc_lib.machine.files import write_atomically

NETWORKS = ("encoder", "generator", "discriminator")
HISTORIES = ("encoder_history", "history")


def save(path: Path, trained: Trained) -> None:
    """Write the three networks, their settings and histories."""
    tensors = {
        f"{name}.{key}": value.contiguous()
        for name in NETWORKS
        for key, value in getattr(trained, name).state_dict().items()
    }
    histories = {name: getattr(trained, name).to_dict("list") for name in HISTORIES}
    metadata = {
        "settings": json.dumps(asdict(trained.settings)),
        "direction": trained.direction,
        "histories": json.dumps(histories),
    }
    write_atomically(path, lambda p: save_file(tensors, p, metadata=metadata))


def load(path: Path, pairs: PairSet) -> Trained:
    """Open networks written by :func:`save`, in evaluation mode.

    Parameters
    ----------
    path : Path
    pairs : PairSet, of the classes and channels they were trained for.

    Raises
    ------
    ValueError
        If the file is damaged or of other pairs.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
        settings = json.loads(metadata["settings"])
        settings = Settings(**settings | {"betas": tuple(settings["betas"])})
        trained = build(pairs, metadata["direction"], settings)
        for name in NETWORKS:
            own = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
            getattr(trained, name).load_state_dict(own)
            getattr(trained, name).eval()
        for name, columns in json.loads(metadata["histories"]).items():
            setattr(trained, name, pd.DataFrame(columns))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"load: {path} is damaged or of other pairs ({str(error).splitlines()[0]}); "
            "train again."
        ) from None
    return trained
