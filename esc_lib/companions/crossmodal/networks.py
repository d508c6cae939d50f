"""SA-CMGAN: encoder, generator and discriminator for pictures of 64 x 64, and their attention.

References
----------
tan2020spectrogram, and its public code
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from esc_lib.companions.crossmodal.settings import Settings

SIDE = 64  # pixels
STAGES = (64, 128, 256, 512)  # channels at 32 x 32, 16 x 16, 8 x 8 and 4 x 4
N_CODE, N_NOISE = 64, 62
SLOPE = 0.2  # of the leaky ReLU


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


class SelfAttention(nn.Module):
    """Add to every place what the places it attends to hold: ``x + gamma * softmax(g f') h``.

    `wrap` is what becomes of each convolution, spectral normalisation for example. Keys and values
    are the maxima of squares of `pool` places a side: 1 for all places, as published; 2, as in the
    public code of SAGAN, costs a quarter.

    f (keys) and g (queries) have an eighth of the channels, h (values) has all of them; each is a
    1x1 convolution. ``gamma`` starts at 0, and with it the layer as the identity. Products are not
    divided by the root of the width. The public code of SA-CMGAN has 4x4 kernels, batch
    normalisation and ReLU in f, g and h; those of SAGAN stand here.

    Examples
    --------
    >>> layer, maps = SelfAttention(16), torch.randn(2, 16, 4, 4)
    >>> torch.equal(layer(maps), maps), layer.weights(maps).shape
    (True, torch.Size([2, 16, 16]))

    References
    ----------
    zhang2019sagan, equations 1 to 3
    """

    def __init__(self, channels: int, wrap: Callable = _as_it_is, pool: int = 1):
        super().__init__()
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        inner = max(1, channels // 8)
        self.key = wrap(nn.Conv2d(channels, inner, 1))  # f
        self.query = wrap(nn.Conv2d(channels, inner, 1))  # g
        self.value = wrap(nn.Conv2d(channels, channels, 1))  # h
        self.gamma = nn.Parameter(torch.zeros(()))

    def weights(self, maps: torch.Tensor) -> torch.Tensor:
        """Return how much each place attends to each, (batch, places, places / pool ** 2)."""
        query, key = self.query(maps).flatten(2), self.pool(self.key(maps)).flatten(2)
        return (query.transpose(1, 2) @ key).softmax(dim=-1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        # (batch, channels, height, width) -> (batch, one head, places, channels)
        query, key, value = (
            part.flatten(2).transpose(1, 2)[:, None].contiguous()
            for part in (self.query(maps), self.pool(self.key(maps)), self.pool(self.value(maps)))
        )
        # zeros leave products as they are, and equal widths let torch keep no matrix of places
        missing = value.shape[-1] - query.shape[-1]
        query, key = (nn.functional.pad(part, (0, missing)) for part in (query, key))
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return maps + self.gamma * attended[:, 0].transpose(1, 2).reshape(maps.shape)


def stage_channels(settings: Settings) -> dict[int, int]:
    """Return how many channels each stage has, at least 8; refuse attention where there is none.

    Examples
    --------
    >>> stage_channels(Settings(width=0.25))
    {64: 16, 128: 32, 256: 64, 512: 128}
    """
    if settings.attention not in (*STAGES, None):
        problem = f"stage_channels: attention={settings.attention!r} is no stage"
        raise ValueError(f"{problem}; choose one of {STAGES} or None.")
    return {stage: max(8, round(stage * settings.width)) for stage in STAGES}


class Tower(nn.Sequential):
    """Five 4x4 convolutions, (batch, channels, 64, 64) to (batch, 512 * width, 4, 4).

    With `spectral`, every layer has spectral normalisation in place of batch normalisation.
    """

    def __init__(self, in_channels: int, settings: Settings, spectral: bool):
        super().__init__()
        channels, wrap = stage_channels(settings), spectral_norm if spectral else _as_it_is
        before = in_channels
        for number, stage in enumerate((64, 128, 256, 256, 512), 1):
            after, stride = channels[stage], 1 if number == 4 else 2
            normalised = not spectral and number > 1
            # an even kernel keeps the size at stride 1 with one zero before and two behind
            pad = nn.ZeroPad2d((1, 1, 1, 1) if stride == 2 else (1, 2, 1, 2))
            conv = wrap(nn.Conv2d(before, after, 4, stride, bias=not normalised))
            norm = nn.BatchNorm2d(after) if normalised else nn.Identity()
            layers = pad, conv, norm, nn.LeakyReLU(SLOPE)
            self.add_module(f"conv{number}", nn.Sequential(*layers))
            if stage == settings.attention and number != 3:  # of two of 256, the second
                self.attention = SelfAttention(after, wrap, settings.pool)
            before = after
        self.n_outputs = before

    def attention_weights(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return how places attend to each other, (batch, places, places / pool ** 2).

        Places are counted row by row of the map; a tower without attention raises ValueError.
        """
        for name, layer in self.named_children():
            if name == "attention":
                return layer.weights(pictures)
            pictures = layer(pictures)
        problem = "attention_weights: this tower has no self-attention"
        raise ValueError(f"{problem}; build it with attention=64.")


class Encoder(nn.Module):
    """Pictures to a code of 64 numbers, and a classifier on top of the code.

    The public code classifies from the layer before, of 128, and so leaves the last one as it was
    drawn; here the code itself is trained.

    Examples
    --------
    >>> network, pictures = Encoder(10, 1, Settings(width=0.125)), torch.zeros(2, 1, 64, 64)
    >>> network(pictures).shape, network.logits(pictures).shape
    (torch.Size([2, 64]), torch.Size([2, 10]))
    """

    def __init__(self, n_classes: int, in_channels: int, settings: Settings):
        super().__init__()
        self.tower = Tower(in_channels, settings, spectral=False)
        hidden = max(64, round(1024 * settings.width))
        self.code = nn.Sequential(nn.Flatten())
        widths = (self.tower.n_outputs * 16, hidden, 128, N_CODE)
        for before, after in zip(widths, widths[1:]):
            self.code.extend([nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(SLOPE)])
        self.classifier = nn.Linear(N_CODE, n_classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, 64, 64) in [-1, 1] to codes, (batch, 64)."""
        return self.code(self.tower(pictures))

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what the classifier makes of the codes, (batch, classes)."""
        return self.classifier(self(pictures))


class _Deconv(nn.ConvTranspose2d):
    """Transposed 4x4 convolution, padding 1: stride 2 doubles the size, stride 1 keeps it."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = super().forward(maps)
        return maps if self.stride == (2, 2) else maps[..., :-1, :-1]


class Generator(nn.Sequential):
    """Codes of one modality and noise to pictures of the other.

    The public code has a sigmoid and no normalisation in the two stages before the last; here they
    are as the others, batch normalisation and ReLU.

    Examples
    --------
    >>> Generator(1, Settings(width=0.125))(torch.zeros(2, 64), torch.zeros(2, 62)).shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, out_channels: int, settings: Settings):
        super().__init__()
        channels = stage_channels(settings)
        before = channels[512]
        dense = nn.Linear(N_CODE + N_NOISE, before * 16), nn.BatchNorm1d(before * 16), nn.ReLU()
        self.fc = nn.Sequential(*dense, nn.Unflatten(1, (before, 4, 4)))
        if settings.attention == 512:
            self.attention = SelfAttention(before, pool=settings.pool)
        for number, stage in enumerate((256, 256, 128, 64), 1):
            after, stride = channels[stage], 1 if number == 2 else 2
            deconv = _Deconv(before, after, 4, stride, padding=1, bias=False)
            layers = deconv, nn.BatchNorm2d(after), nn.ReLU()
            self.add_module(f"deconv{number}", nn.Sequential(*layers))
            if stage == settings.attention and number != 1:
                self.attention = SelfAttention(after, pool=settings.pool)
            before = after
        self.deconv5 = nn.Sequential(nn.ConvTranspose2d(before, out_channels, 4, 2, 1), nn.Tanh())

    def forward(self, codes: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Map (batch, 64) and (batch, 62) to pictures in [-1, 1], (batch, channels, 64, 64)."""
        return super().forward(torch.cat([codes, noise], dim=1))


class Discriminator(nn.Module):
    """Score how well a picture goes with a code; all layers spectrally normalised.

    The public code has batch normalisation besides, which undoes the bound on the slope that
    spectral normalisation is there for; it is left out.

    Examples
    --------
    >>> network = Discriminator(1, Settings(width=0.125))
    >>> network(torch.zeros(2, 64), torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2])

    References
    ----------
    miyato2018spectral
    """

    def __init__(self, in_channels: int, settings: Settings):
        super().__init__()
        self.tower = Tower(in_channels, settings, spectral=True)
        hidden = max(64, round(1024 * settings.width))
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
