"""The audio spectrogram transformer of the transformers package, on this project's features."""

from typing import Self

import torch
from torch import nn
from torch.nn.functional import interpolate
from transformers import ASTConfig, ASTForAudioClassification
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (  # noqa: E501
    ASTEmbeddings,
)

PUBLISHED = "MIT/ast-finetuned-audioset-10-10-0.4593"
N_SPECIAL = 2  # class and distillation token stand before the patches
INPUT_SD = 0.5  # the publication shifts and scales its input to mean 0 and deviation 0.5
FULL, FROZEN = "full", "frozen"  # levels of freezing


class SpectrogramAST(nn.Module):
    """Map this project's features to logits with an audio spectrogram transformer.

    Parameters
    ----------
    network : ASTForAudioClassification; its embeddings become :class:`AnySize`.
    pool : str
        "tokens": the classifier reads the mean of class and distillation token, as published.
        "patches": the mean of all patches, as after training without labels, which teaches the
        two tokens nothing (gong2022ssast, section 2). ValueError for others.

    Notes
    -----
    The publication (gong2021ast, section 2) reads (batch, frames, mel) with mean 0 and deviation
    0.5 over all of its data; here the features, (batch, 1, mel, frames), have mean 0 and deviation
    1 per clip, so they are transposed and halved. At the size of its table of positions this is the
    package's network, number for number.
    """

    def __init__(self, network: ASTForAudioClassification, pool: str = "tokens"):
        super().__init__()
        if pool not in ("tokens", "patches"):
            raise ValueError(f"SpectrogramAST: pool={pool!r}; choose tokens or patches.")
        network.audio_spectrogram_transformer.embeddings.__class__ = AnySize
        self.network, self.pool = network, pool

    @property
    def encoder(self) -> nn.Module:
        """Embeddings, layers and the last normalisation: all but the classifier."""
        return self.network.audio_spectrogram_transformer

    @property
    def classifier(self) -> nn.Module:
        """Normalisation and dense layer on the pooled tokens."""
        return self.network.classifier

    @property
    def config(self) -> ASTConfig:
        """The package's settings: width, layers, heads, patch and step."""
        return self.network.config

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, shape (batch, classes)."""
        return self.classifier(self.pooled(features))

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the classifier reads, shape (batch, width), of (batch, 1, mel, frames)."""
        outputs = self.encoder(input_values_of(features))
        if self.pool == "tokens":
            return outputs.pooler_output
        return outputs.last_hidden_state[:, N_SPECIAL:].mean(dim=1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is all frozen stays in evaluation mode, without dropout.

        An encoder that cannot learn to live with dropout is not disturbed by it.
        """
        super().train(mode)
        for module in (*self.encoder.children(), *self.encoder.layers, self.classifier):
            frozen = not any(parameter.requires_grad for parameter in module.parameters())
            if mode and frozen:
                module.eval()
        return self


class AnySize(ASTEmbeddings):
    """Patch, token and position embeddings that take other sizes than that of their table.

    For fewer frames than the table has, its middle columns are taken, as in the publication's
    code: a step of ten frames stays a step. For more, it is interpolated along the frames.
    Along frequency it is always interpolated, as fewer bands still span all frequencies; the
    publication's code cuts there, too.
    """

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Return the tokens, shape (batch, 2 + patches, width), of (batch, frames, mel)."""
        positions = self._positions(input_values.shape[2], input_values.shape[1])
        patches = self.patch_embeddings(input_values)
        special = (self.cls_token, self.distillation_token)
        tokens = torch.cat([*(t.expand(len(patches), -1, -1) for t in special), patches], dim=1)
        return self.dropout(tokens + positions)

    def _positions(self, n_mels: int, n_frames: int) -> torch.Tensor:
        """Return the table for another size, shape (1, 2 + patches, width)."""
        rows, columns = grid_size(self.config, n_mels, n_frames)
        table_grid = grid_size(self.config, self.config.num_mel_bins, self.config.max_length)
        if (rows, columns) == table_grid:
            return self.position_embeddings
        special = self.position_embeddings[:, :N_SPECIAL]
        table = self.position_embeddings[:, N_SPECIAL:].transpose(1, 2)
        table = table.unflatten(2, table_grid)  # (1, width, rows, columns)
        if columns < table_grid[1]:
            first = (table_grid[1] - columns) // 2
            table = table[..., first : first + columns]
        if table.shape[2:] != (rows, columns):
            table = interpolate(table, size=(rows, columns), mode="bilinear", antialias=True)
        return torch.cat([special, table.flatten(2).transpose(1, 2)], dim=1)


def input_values_of(features: torch.Tensor) -> torch.Tensor:
    """Return the package's input, (batch, frames, mel), of features (batch, 1, mel, frames)."""
    return INPUT_SD * features[:, 0].transpose(1, 2)


def grid_size(config: ASTConfig, n_mels: int, n_frames: int) -> tuple[int, int]:
    """Return how many patches fit, (rows along mel, columns along frames).

    ValueError if the spectrogram is smaller than a patch.

    Examples
    --------
    >>> grid_size(ASTConfig(), 128, 512)
    (12, 50)
    """
    if min(n_mels, n_frames) < config.patch_size:
        raise ValueError(
            f"grid_size: {n_mels} mel bands x {n_frames} frames hold no patch of "
            f"{config.patch_size} x {config.patch_size}; give a larger spectrogram."
        )
    rows = (n_mels - config.patch_size) // config.frequency_stride + 1
    return rows, (n_frames - config.patch_size) // config.time_stride + 1


# ------------------------------------------------------------------------------------- networks


def full_ast(n_classes: int, n_frames: int = 512) -> SpectrogramAST:
    """Return the published network with random weights: width 768, 12 layers, 12 heads.

    85.76 million parameters with 50 classes. The table of positions has `n_frames`, by default
    five seconds at the publication's hop of 10 ms, 600 patches; the published weights have 1024
    (gong2021ast, sections 2 and 3.2).
    """
    return _fresh(ASTConfig(num_labels=n_classes, max_length=n_frames))


def small_ast(
    n_classes: int,
    n_mels: int = 128,
    n_frames: int = 216,
    *,
    width: int = 192,
    layers: int = 8,
    heads: int = 8,
    dropout: float = 0.1,
    pool: str = "patches",
) -> SpectrogramAST:
    """Return a network small enough to be trained here: 8 layers of 8 heads.

    Patches of 16 x 16 with a step of 10, as published. The table of positions has `n_mels` and
    `n_frames`: the input it sees most. The width is a multiple of the heads; the MLP has four times
    as many units. Dropout acts behind embeddings, attention and MLP. By default `pool` is what
    suits training without labels.

    Examples
    --------
    >>> small_ast(50)(torch.zeros(1, 1, 128, 216)).shape
    torch.Size([1, 50])
    """
    config = ASTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
        layer_norm_eps=1e-6,
        num_mel_bins=n_mels,
        max_length=n_frames,
        num_labels=n_classes,
    )
    return _fresh(config, pool)


def pretrained(name: str, n_classes: int) -> SpectrogramAST:
    """Return a network with weights from elsewhere and a fresh classifier.

    A saved classifier of as many classes is kept. The published weights saw Kaldi's filter bank at
    16 kHz with a hop of 10 ms. A front end of another rate or hop works, as positions are fitted,
    but makes less of these weights.

    The name is one on the Hugging Face hub, as :data:`PUBLISHED`, or a folder with ``config.json``
    and ``model.safetensors``. Other formats of weights are not read: they can hold code. ValueError
    if the weights cannot be had: no connection, no such name, no such folder.
    """
    try:
        network = ASTForAudioClassification.from_pretrained(
            name, num_labels=n_classes, ignore_mismatched_sizes=True, use_safetensors=True
        )
    except OSError as error:
        raise ValueError(
            f"pretrained: the weights of {name!r} cannot be read; check the name and the "
            "connection, give the folder of a downloaded copy, or train small_ast instead."
        ) from error
    return SpectrogramAST(network)


def _fresh(config: ASTConfig, pool: str = "tokens") -> SpectrogramAST:
    """Return a fresh network; positions and tokens start random as published, not at zero."""
    network = ASTForAudioClassification(config)
    embeddings = network.audio_spectrogram_transformer.embeddings
    for name in ("cls_token", "distillation_token", "position_embeddings"):
        nn.init.trunc_normal_(getattr(embeddings, name), std=config.initializer_range)
    return SpectrogramAST(network, pool)


# ------------------------------------------------------------------------------------- freezing


def freeze(network: SpectrogramAST, level: str) -> SpectrogramAST:
    """Let a part of the network learn, in place, and freeze the rest; return the network itself.

    "full": everything learns. "frozen": the encoder is frozen, only the classifier (a normalisation
    and a dense layer) learns. "last2", or another number: the last two layers, the normalisation
    behind them and the classifier learn. ValueError if the level is unknown, or asks for more
    layers than there are.
    """
    encoder = network.encoder
    last = {f"last{n}": n for n in range(1, len(encoder.layers) + 1)}
    if level not in (FULL, FROZEN, *last):
        raise ValueError(
            f"freeze: level={level!r} is unknown; choose {FULL}, {FROZEN}, or last1 to "
            f"last{len(last)}."
        )
    network.requires_grad_(level == FULL)
    learning = (*encoder.layers[-last[level] :], encoder.layernorm) if level in last else ()
    for module in (network.classifier, *learning):
        module.requires_grad_(True)
    return network.train(network.training)
