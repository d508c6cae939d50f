"""Networks: layers only, no training."""

from esc_lib.models.architectures import build
