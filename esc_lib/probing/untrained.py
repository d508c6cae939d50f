"""The control: convolutions that never learned, with a head that did.

An untrained network has no decision to explain. So its convolutions, normalisation and gates stay
as they are before training, and only its head is trained, on what the last gate passes on.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from esc_lib.config import Profile, variant
from esc_lib.data.clips import Data
from esc_lib.layers.hooks import stream
from esc_lib.machine.hardware import best_device
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training.classifier import initial_model

STEPS, LEARNING_RATE, DECAY = 300, 1e-3, 0.05  # of AdamW, all training clips in each step
LOOK_EVERY = 10  # steps from one look at the validation loss to the next


def random_network(data: Data, profile: Profile, seed: int, head: bool = True) -> SECNN:
    """Return a network before training, in evaluation mode.

    With `head`, its head is trained on training clips; the weights of least validation loss are
    kept.
    """
    device = best_device()
    model = initial_model(variant(profile, seed=seed), len(data.class_names)).to(device).eval()
    if head:
        front_end = LogMel(profile.front_end).to(device)
        seen = [
            (pooled(model, front_end, data, rows), data.labels[rows].to(device))
            for rows in (data.split.train, data.split.validation)
        ]
        train_head(model, *seen, seed)
    return model


def pooled(model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray) -> torch.Tensor:
    """Return what the head reads of clips, (clips, channels)."""
    found = stream(model, front_end, data, rows, ["pool"])
    return torch.cat([maps["pool"].float().flatten(1) for _, _, maps in found])


def train_head(
    model: SECNN, train: tuple[torch.Tensor, torch.Tensor],
    validation: tuple[torch.Tensor, torch.Tensor], seed: int,
) -> None:  # fmt: skip
    """Train the two linear layers of a network, in place, on what they read, and its labels."""
    torch.manual_seed(seed)  # dropout
    mean, deviation = train[0].mean(dim=0), train[0].std(dim=0).clamp_min(1e-6)
    head = nn.Sequential(model.fc1, model.relu, model.dropout, model.fc2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
    (x, labels), (x_held_out, its_labels) = (
        ((values - mean) / deviation, labels) for values, labels in (train, validation)
    )
    least, kept = float("inf"), {}
    for step in range(STEPS):
        head.train()
        loss = cross_entropy(head(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOOK_EVERY == 0:
            head.eval()
            with torch.no_grad():
                held_out = float(cross_entropy(head(x_held_out), its_labels))
            if held_out < least:
                least = held_out
                kept = {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    head.eval()
    with torch.no_grad():  # what was standardised beforehand, the first layer does itself
        model.fc1.weight /= deviation
        model.fc1.bias -= model.fc1.weight @ mean
