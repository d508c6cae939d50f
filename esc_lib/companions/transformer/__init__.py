"""A spectrogram transformer: taught without labels, frozen or not, and where its heads look."""

from esc_lib.companions.transformer import attention, figures
from esc_lib.companions.transformer.freezing import costs, n_trainable
from esc_lib.companions.transformer.masked_patches import random_masks
from esc_lib.companions.transformer.network import N_SPECIAL, full_ast, pretrained
from esc_lib.companions.transformer.settings import of_profile
from esc_lib.companions.transformer.study import (
    LEVELS,
    PROBE,
    PROBE_FRESH,
    SCRATCH,
    WAYS,
    Study,
    accuracy_table,
    differences,
)
