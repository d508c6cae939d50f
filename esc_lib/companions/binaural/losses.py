"""Three ways to say how wrong points (x, y) are.

Points and truth have the shape (batch, 2); the truth lies on the unit circle.
"""

import torch


def squared_error(points: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the squared error, averaged over scenes and both coordinates."""
    return (points - truth).square().mean()


def angular_distance(points: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the angle between directions in rad, averaged over scenes.

    acos(p . t / |p| |t|) = atan2(|p x t|, p . t). The slope of acos is infinite where the two agree
    and where they are opposite; that of atan2 is finite everywhere but at p = 0, which is kept
    away from. It is zero at both ends.
    """
    points = points + 1e-6 * (points.square().sum(1, keepdim=True) < 1e-12)
    cross = points[:, 0] * truth[:, 1] - points[:, 1] * truth[:, 0]
    return torch.atan2(cross.abs(), (points * truth).sum(dim=1)).mean()


def hybrid(points: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the sum of both, as the paper does."""
    return squared_error(points, truth) + angular_distance(points, truth)


LOSSES = {"squared": squared_error, "angular": angular_distance, "hybrid": hybrid}
