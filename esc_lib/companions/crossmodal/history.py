"""What is noted while a network is trained."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch


class Log:
    """Means of what was added since the last row."""

    def __init__(self, every: int):
        self.every, self.rows, self.sums = every, [], {}
        self.started = time.perf_counter()

    def add(self, step: int, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self.sums.setdefault(name, []).append(float(value.detach()))
        if step % self.every == 0:
            means = {name: np.mean(found) for name, found in self.sums.items()}
            seconds = time.perf_counter() - self.started
            self.rows.append({"step": step, "seconds": seconds} | means)
            self.sums = {}

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)
