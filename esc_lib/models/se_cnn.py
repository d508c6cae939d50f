"""The thesis's classifier: five convolution blocks, four squeeze-and-excitation gates."""

import torch
from torch import nn

from esc_lib.config import Network


class ConvBlock(nn.Module):
    """[Conv 3x3 without bias, BatchNorm, ReLU] twice, then MaxPool 2x2.

    The second ReLU follows the pooling: the values and gradients are the same, of a quarter as
    many units.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (batch, in, mel, frames) to (batch, out, mel // 2, frames // 2)."""
        maps = self.relu(self.bn1(self.conv1(maps)))
        return self.relu(self.pool(self.bn2(self.conv2(maps))))


class FirstBlock(ConvBlock):
    """The block that sees the spectrogram, with mel and frames exchanged while it is trained.

    So it is if it lies on a CPU, channels last: there a convolution along rows of 431 frames, a
    prime number, was measured at half the speed of rows of 432 frames, or of 128 mel bands.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (batch, in, mel, frames) to (batch, out, mel // 2, frames // 2)."""
        layout = torch.channels_last
        channels_last = self.conv2.weight.is_contiguous(memory_format=layout)
        if not (self.training and maps.is_cpu and channels_last):
            return super().forward(maps)
        maps = maps.transpose(2, 3).contiguous(memory_format=layout)
        maps = self.relu(self.bn1(_exchanged(self.conv1, maps)))
        maps = self.relu(self.pool(self.bn2(_exchanged(self.conv2, maps))))
        return maps.transpose(2, 3).contiguous(memory_format=layout)


def _exchanged(convolution: nn.Conv2d, maps: torch.Tensor) -> torch.Tensor:
    """Convolve maps whose last two axes are exchanged."""
    return nn.functional.conv2d(maps, convolution.weight.transpose(2, 3), padding=1)


class SqueezeExcitation(nn.Module):
    """Channel gate from concatenated average and maximum pooling, both linear layers bias-free.

    References
    ----------
    hu2018squeeze, section 3; thesis, section 2.1 (average and maximum together).
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.average_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Linear(2 * channels, channels // reduction, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(channels // reduction, channels, bias=False)
        self.sigmoid = nn.Sigmoid()

    def gate(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the factor of every channel, shape (batch, channels), in (0, 1)."""
        squeezed = torch.cat([self.average_pool(maps), self.max_pool(maps)], dim=1).flatten(1)
        return self.sigmoid(self.fc2(self.relu(self.fc1(squeezed))))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scale each channel of (batch, channels, mel, frames) by its gate."""
        return maps * self.gate(maps)[:, :, None, None]


def gate_or_none(channels: int, reduction: int) -> nn.Module:
    """Return a gate, or what lets all maps pass if the reduction is 0."""
    return SqueezeExcitation(channels, reduction) if reduction else nn.Identity()


class SECNN(nn.Module):
    """SE-CNN of the thesis, of its widths unless `settings` say others; gates follow blocks 2 to 5.

    Examples
    --------
    >>> SECNN(50)(torch.zeros(1, 1, 128, 431)).shape
    torch.Size([1, 50])

    References
    ----------
    Thesis, section 4.4 and the total of Table 4.2 (its Table 3.1 and Figure 3.3 show other
    networks, see the errata page).
    """

    def __init__(self, n_classes: int, settings: Network | None = None):
        super().__init__()
        settings = settings or Network()
        c1, c2, c3, c4, c5 = settings.channels
        self.conv_block1 = FirstBlock(1, c1)
        self.conv_block2 = ConvBlock(c1, c2)
        self.se1 = gate_or_none(c2, settings.se_reduction)
        self.conv_block3 = ConvBlock(c2, c3)
        self.se2 = gate_or_none(c3, settings.se_reduction)
        self.conv_block4 = ConvBlock(c3, c4)
        self.se3 = gate_or_none(c4, settings.se_reduction)
        self.conv_block5 = ConvBlock(c4, c5)
        self.se4 = gate_or_none(c5, settings.se_reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(c5, settings.hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(settings.dropout)
        self.fc2 = nn.Linear(settings.hidden, n_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, shape (batch, classes)."""
        maps = self.conv_block1(features)
        maps = self.se1(self.conv_block2(maps))
        maps = self.se2(self.conv_block3(maps))
        maps = self.se3(self.conv_block4(maps))
        maps = self.se4(self.conv_block5(maps))
        hidden = self.relu(self.fc1(self.pool(maps).flatten(1)))
        return self.fc2(self.dropout(hidden))


BLOCKS = tuple(f"conv_block{i}" for i in range(1, 6))
GATES = tuple(f"se{i}" for i in range(1, 5))


def component_of(parameter_name: str) -> str:
    """Return the row of thesis Table 4.2 that a parameter belongs to."""
    module = parameter_name.split(".")[0]
    if module.startswith("se"):
        return "SE gates"
    return module if module.startswith("conv_block") else "fc layers"
