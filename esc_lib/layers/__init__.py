"""Hidden layers read: their maps, their gates, where clips lie in them."""

from esc_lib.layers import embeddings, gates
from esc_lib.layers.hooks import record
