"""What several processes do together: batch normalisation over all of them, on CPUs too."""

import torch
import torch.distributed as dist
from torch import nn


def is_first_process() -> bool:
    """Say whether this process is the one that writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_context, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.apply(gradient)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose training statistics span the batches of all processes.

    ``nn.SyncBatchNorm`` does this on accelerators only. Sums and counts are added up, so that
    unequal shares of a batch are right too.

    References
    ----------
    ioffe2015batchnorm, algorithm 1.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channels, mel, frames)."""
        if not self.training:
            return super().forward(maps)
        values = maps.float()
        count = values.new_full((1,), values[:, 0].numel())
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        total, squares, count = _Sum.apply(sums).split([self.num_features] * 2 + [1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(maps.dtype)


def synchronise(model: nn.Module) -> nn.Module:
    """Make every ``BatchNorm2d`` of `model` span all processes, in place, and return it."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncBatchNorm2d
    return model
