"""Peer networks for the comparison table: other architectures, our input, our training loop.

Each maps standardised log-mel spectrograms (batch, 1, mel, frames) to logits (batch, classes) and
takes any size from 32 mel bands and 32 frames upwards: training crops its input and coarsens both
axes, tests read other lengths. Hence a published head that expects one size is replaced by the
nearest that does not; each docstring says what is kept and what differs. Optimiser, schedule and
augmentation of the publications are not part of a network and are not copied.
"""

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad


def deltas(log_mel: torch.Tensor) -> torch.Tensor:
    """Return the slope along the frames, per frame: least squares over librosa's nine frames.

    d[t] = sum_n n x[t + n] / sum_n n^2, n from -4 to 4; the outermost frames of (batch, 1, mel,
    frames) are repeated at the ends.
    """
    offsets = torch.arange(-4, 5, device=log_mel.device, dtype=log_mel.dtype)
    kernel = (offsets / offsets.square().sum()).view(1, 1, 1, -1)
    return conv2d(pad(log_mel, (4, 4, 0, 0), mode="replicate"), kernel)


class PiczakCNN(nn.Module):
    """Piczak's CNN: two convolutions, the first nearly as tall as the spectrum, two wide layers.

    29 334 130 parameters with 50 classes, 25 million of them between the two wide layers.

    Notes
    -----
    Kept: log-mel and deltas as two channels, 60 mel bands, all layers, their sizes and dropout of
    the variant with long segments. On its own input, 60 mel x 101 frames, this is the published
    network. Different: other mel counts are resampled to 60 bands; the last max-pooling splits the
    frames into ten parts of equal length (parts of three frames for 101 frames), so that the wide
    layers take any length; a clip is not cut into segments that vote, as how clips are cut is up
    to the training loop; frames follow each other at our hop.

    References
    ----------
    piczak2015cnn, "Environmental sound classification with convolutional neural networks", MLSP.

    Examples
    --------
    >>> PiczakCNN(50)(torch.zeros(1, 1, 128, 431)).shape
    torch.Size([1, 50])
    """

    n_mels = 60

    def __init__(self, n_classes: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(2, 80, (57, 6)),
            nn.ReLU(),
            nn.MaxPool2d((4, 3), stride=(1, 3)),
            nn.Dropout(0.5),
            nn.Conv2d(80, 80, (1, 3)),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d((1, 10)),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(80 * 10, 5000),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(5000, 5000),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(5000, n_classes),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, shape (batch, classes)."""
        size = (self.n_mels, features.shape[-1])
        # in float32: half-precision loops hand over rounded features, which it does not take
        features = interpolate(features.float(), size=size, mode="bilinear", antialias=True)
        both = torch.cat([features, deltas(features)], dim=1)  # (batch, 2, 60, frames)
        return self.head(self.convolutions(both))


class ACDNetLike(nn.Module):
    """ACDNet behind its learned front end, which the log-mel spectrogram replaces.

    4 732 602 parameters with 50 classes; ACDNet has 4.74 million (its front end: 2 776).

    Notes
    -----
    Kept: the whole temporal block (TFEB), which in ACDNet too reads a picture of channel (64) by
    frame: nine 3x3 convolutions and a 1x1 one to the classes, all without bias and with batch
    normalisation and ReLU, five 2x2 max-poolings, dropout 0.2, average, dense layer, and the
    distribution of the first weights. Different: the spectral block (SFEB), two strided
    convolutions on the raw waveform at 20 kHz, is gone; the average spans what is left of both
    axes.

    References
    ----------
    Mohaimenuzzaman et al. (2023), "Environmental Sound Classification on the Edge", Pattern
    Recognition; its code, mohaimenz/acdnet, torch/resources/models.py.

    Examples
    --------
    >>> ACDNetLike(50).eval()(torch.zeros(1, 1, 128, 431)).shape
    torch.Size([1, 50])
    """

    def __init__(self, n_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels, repeats in ((32, 1), (64, 2), (128, 2), (256, 2), (512, 2)):
            for _ in range(repeats):
                layers += _conv_bn_relu(before, channels, 3)
                before = channels
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Dropout(0.2), *_conv_bn_relu(before, n_classes, 1)]
        self.convolutions = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(n_classes, n_classes)
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, shape (batch, classes)."""
        return self.head(self.pool(self.convolutions(features)).flatten(1))


def _conv_bn_relu(in_channels: int, out_channels: int, size: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


class SmallAST(nn.Module):
    """Small audio spectrogram transformer, to be trained from scratch.

    3 646 706 parameters with 50 classes; the published one has 86 million. The grid of patches of
    `n_mels` x `n_frames` has position embeddings of its own, interpolated for any other size; by
    default it is the mel bands of the front end, and about the excerpt that training sees.

    Notes
    -----
    Kept: patches of 16 x 16 with a step of 10, position embeddings, class and distillation token,
    layer normalisation before attention and MLP, GELU, and the mean of both tokens, normalised, to
    one dense layer: at the size of the position embeddings, ASTForAudioClassification of the
    transformers package. Its fixed size is why PyTorch's own encoder layers are used here.
    Different: width 192, 8 layers, 3 heads instead of 768, 12, 12 (the width and heads of DeiT's
    smallest); no weights from images or AudioSet; dropout 0.1, as there are few clips; positions
    are interpolated along both axes at every pass, so along the frames they say where in the
    excerpt a patch lies, whereas the publication interpolates once, before fine-tuning.

    References
    ----------
    gong2021ast, section 2.

    Examples
    --------
    >>> SmallAST(50)(torch.zeros(1, 1, 128, 431)).shape
    torch.Size([1, 50])
    """

    def __init__(self, n_classes: int, n_mels: int = 128, n_frames: int = 128):
        super().__init__()
        width, patch, step = 192, 16, 10
        grid = [(size - patch) // step + 1 for size in (n_mels, n_frames)]
        self.patches = nn.Conv2d(1, width, patch, stride=step)
        self.positions = nn.Parameter(torch.empty(1, width, *grid))
        self.tokens = nn.Parameter(torch.empty(1, 2, width))
        layer = nn.TransformerEncoderLayer(
            width,
            nhead=3,
            dim_feedforward=4 * width,
            dropout=0.1,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, 8, norm=nn.LayerNorm(width, eps=1e-6), enable_nested_tensor=False
        )
        self.head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, n_classes))
        # nn.TransformerEncoder copies one layer: without this all eight would start alike
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, shape (batch, classes)."""
        maps = self.patches(features)  # (batch, width, rows, columns)
        # antialias: on a coarser grid too, every learned position takes part
        positions = interpolate(
            self.positions, size=maps.shape[-2:], mode="bilinear", antialias=True
        )
        patches = (maps + positions).flatten(2).transpose(1, 2)  # (batch, patches, width)
        sequence = torch.cat([self.tokens.expand(len(patches), -1, -1), patches], dim=1)
        return self.head(self.encoder(sequence)[:, :2].mean(dim=1))


PEERS = {"piczak_cnn": PiczakCNN, "acdnet_like": ACDNetLike, "small_ast": SmallAST}
