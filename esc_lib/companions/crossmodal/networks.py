"""SA-CMGAN: encoder, generator and discriminator for pictures of 64 x 64."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from esc_lib.companions.crossmodal.attention import SelfAttention

SIDE = 64  # pixels
STAGES = (64, 128, 256, 512)  # channels at 32 x 32, 16 x 16, 8 x 8 and 4 x 4
N_CODE, N_NOISE = 64, 62
SLOPE = 0.2  # of the leaky ReLU


def stage_channels(width: float, attention: int | None) -> dict[int, int]:
    """Return how many channels each stage has, and check where the attention is wanted.

    Parameters
    ----------
    width : float, 1 for the published network; stages never have less than 8 channels.
    attention : int, the stage followed by self-attention, one of ``STAGES``; None for none.

    Examples
    --------
    >>> stage_channels(0.25, 64)
    {64: 16, 128: 32, 256: 64, 512: 128}
    """
    if attention is not None and attention not in STAGES:
        raise ValueError(
            f"stage_channels: attention={attention!r} is no stage; choose one of {STAGES} or None."
        )
    return {stage: max(8, round(stage * width)) for stage in STAGES}


class Tower(nn.Sequential):
    """Five 4x4 convolutions, (batch, channels, 64, 64) to (batch, 512 * width, 4, 4).

    Parameters
    ----------
    in_channels : int
    width, attention : see :func:`stage_channels`.
    pool : int, see ``attention.SelfAttention``.
    spectral : bool, spectral normalisation of every layer in place of batch normalisation.
    """

    def __init__(
        self, in_channels: int, width: float, attention: int | None, pool: int, spectral: bool
    ):
        super().__init__()
        channels = stage_channels(width, attention)
        self.wrap = spectral_norm if spectral else (lambda layer: layer)
        before = in_channels
        for name, stage, stride in (
            ("conv1", 64, 2),
            ("conv2", 128, 2),
            ("conv3", 256, 2),
            ("conv4", 256, 1),
            ("conv5", 512, 2),
        ):
            normalised = not spectral and name != "conv1"
            self.add_module(name, self._block(before, channels[stage], stride, normalised))
            before = channels[stage]
            if stage == attention and name != "conv3":  # of the two stages of 256, the second
                self.attention = SelfAttention(before, self.wrap, pool)
        self.n_outputs = before

    def _block(self, before: int, after: int, stride: int, normalised: bool) -> nn.Sequential:
        # an even kernel keeps the size at stride 1 with one zero before and two behind
        pad = nn.ZeroPad2d((1, 1, 1, 1) if stride == 2 else (1, 2, 1, 2))
        conv = self.wrap(nn.Conv2d(before, after, 4, stride, bias=not normalised))
        norm = nn.BatchNorm2d(after) if normalised else nn.Identity()
        return nn.Sequential(pad, conv, norm, nn.LeakyReLU(SLOPE))

    def attention_weights(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return how places attend to each other, (batch, places, places / pool ** 2).

        Places are counted row by row of the map.

        Raises
        ------
        ValueError
            If the tower has no attention.
        """
        for name, layer in self.named_children():
            if name == "attention":
                return layer.weights(pictures)
            pictures = layer(pictures)
        raise ValueError(
            "attention_weights: this tower has no self-attention; build it with attention=64."
        )


class Encoder(nn.Module):
    """Pictures to a code of 64 numbers, and a classifier on top of the code.

    Notes
    -----
    The public code classifies from the layer before, of 128, and so leaves the last one as it was
    drawn; here the code itself is trained.

    Examples
    --------
    >>> import torch
    >>> network = Encoder(10, in_channels=1, width=0.125)
    >>> network(torch.zeros(2, 1, 64, 64)).shape, network.logits(torch.zeros(2, 1, 64, 64)).shape
    (torch.Size([2, 64]), torch.Size([2, 10]))

    References
    ----------
    tan2020spectrogram
    """

    def __init__(
        self,
        n_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        attention: int | None = 64,
        pool: int = 1,
    ):
        super().__init__()
        self.tower = Tower(in_channels, width, attention, pool, spectral=False)
        hidden = max(64, round(1024 * width))
        self.code = nn.Sequential(
            nn.Flatten(),
            *self._dense(self.tower.n_outputs * 16, hidden),
            *self._dense(hidden, 128),
            *self._dense(128, N_CODE),
        )
        self.classifier = nn.Linear(N_CODE, n_classes)

    @staticmethod
    def _dense(before: int, after: int) -> tuple[nn.Module, ...]:
        return nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(SLOPE)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, 64, 64) in [-1, 1] to codes, (batch, 64)."""
        return self.code(self.tower(pictures))

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what the classifier makes of the codes, (batch, classes)."""
        return self.classifier(self(pictures))


class _Same(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 1 that keeps the size."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after, 4, stride=1, padding=1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps)[..., :-1, :-1]


class Generator(nn.Sequential):
    """Codes of one modality and noise to pictures of the other.

    Notes
    -----
    The public code has a sigmoid and no normalisation in the two stages before the last; here they
    are as the others, batch normalisation and ReLU.

    Examples
    --------
    >>> import torch
    >>> Generator(1, width=0.125)(torch.zeros(2, 64), torch.zeros(2, 62)).shape
    torch.Size([2, 1, 64, 64])

    References
    ----------
    tan2020spectrogram
    """

    def __init__(
        self,
        out_channels: int = 3,
        width: float = 1.0,
        attention: int | None = 64,
        pool: int = 1,
    ):
        super().__init__()
        channels = stage_channels(width, attention)
        first = channels[512]
        self.fc = nn.Sequential(
            nn.Linear(N_CODE + N_NOISE, first * 16),
            nn.BatchNorm1d(first * 16),
            nn.ReLU(),
            nn.Unflatten(1, (first, 4, 4)),
        )
        self._attend(512, channels, attention, pool)
        self.deconv1 = self._block(self._double(first, channels[256]), channels[256])
        self.deconv2 = self._block(_Same(channels[256], channels[256]), channels[256])
        self._attend(256, channels, attention, pool)
        self.deconv3 = self._block(self._double(channels[256], channels[128]), channels[128])
        self._attend(128, channels, attention, pool)
        self.deconv4 = self._block(self._double(channels[128], channels[64]), channels[64])
        self._attend(64, channels, attention, pool)
        out = nn.ConvTranspose2d(channels[64], out_channels, 4, 2, 1)
        self.deconv5 = nn.Sequential(out, nn.Tanh())

    def _attend(self, stage: int, channels: dict[int, int], attention: int | None, pool: int):
        if stage == attention:
            self.attention = SelfAttention(channels[stage], pool=pool)

    @staticmethod
    def _double(before: int, after: int) -> nn.Module:
        return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)

    @staticmethod
    def _block(layer: nn.Module, after: int) -> nn.Sequential:
        return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, codes: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Map (batch, 64) and (batch, 62) to pictures in [-1, 1], (batch, channels, 64, 64)."""
        return super().forward(torch.cat([codes, noise], dim=1))


class Discriminator(nn.Module):
    """Score how well a picture goes with a code; all layers spectrally normalised.

    Notes
    -----
    The public code has batch normalisation besides, which undoes the bound on the slope that
    spectral normalisation is there for; it is left out.

    Examples
    --------
    >>> import torch
    >>> Discriminator(1, width=0.125)(torch.zeros(2, 64), torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2])

    References
    ----------
    tan2020spectrogram; miyato2018spectral
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: float = 1.0,
        attention: int | None = 64,
        pool: int = 1,
    ):
        super().__init__()
        self.tower = Tower(in_channels, width, attention, pool, spectral=True)
        hidden = max(64, round(1024 * width))
        self.fc1 = spectral_norm(nn.Linear((self.tower.n_outputs + N_CODE) * 16, hidden))
        self.fc2 = spectral_norm(nn.Linear(hidden, 1))

    def forward(self, codes: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """Map (batch, 64) and (batch, channels, 64, 64) to scores, (batch,)."""
        return self.score(codes, self.tower(pictures))

    def score(self, codes: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Score codes, (batch, 64), with what the tower made of pictures."""
        tiled = codes[:, :, None, None].expand(-1, -1, *maps.shape[2:])  # the code at each place
        both = torch.cat([maps, tiled], dim=1).flatten(1)
        return self.fc2(nn.functional.leaky_relu(self.fc1(both), SLOPE))[:, 0]
