"""Hidden layers read: their maps, their gates, where clips lie in them."""

from esc_lib.layers import embeddings, gates, neighbours
from esc_lib.layers.hooks import BEFORE, forced_logits, record, se_gates
