"""Networks: layers only, no training."""

from esc_lib.models.architectures import build
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN
