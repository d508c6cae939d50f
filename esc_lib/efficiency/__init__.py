"""What it costs to listen, and how small a network can get."""

from esc_lib.efficiency.forms import (
    ENGINES,
    INT8,
    ONNX,
    accuracy_table,
    costs,
    decide,
    features_of,
    make_forms,
    narrow_network,
    presented,
    short_training,
)
from esc_lib.efficiency.network_cost import (
    cost,
    multiply_adds,
    receptive_field,
    receptive_field_by_gradient,
    side_by_side,
    working_memory_mb,
)
from esc_lib.efficiency.pruning import prune_channels, settings_of
from esc_lib.efficiency.stream import join_clips, listen, truth_of_windows
