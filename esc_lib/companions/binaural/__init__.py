"""Where a sound comes from: heads, rooms, rendering, a transformer, its rivals and its attention.

Azimuths are degrees, anticlockwise seen from above: 0 ahead, 90 left, 180 behind, 270 right.
"""

from esc_lib.companions.binaural.heads import (
    SR,
    level_difference_db,
    open_head,
    spherical_head,
    time_difference_s,
    woodworth_s,
)
from esc_lib.companions.binaural.judging import (
    against,
    angular_error_deg,
    confusion,
    errors,
    summary,
)
from esc_lib.companions.binaural.masking import masking_table
from esc_lib.companions.binaural.rollout import roll_out_ears, rollout_maps
from esc_lib.companions.binaural.rooms import reverberation_time_s
from esc_lib.companions.binaural.settings import of_profile
from esc_lib.companions.binaural.spectrograms import levels_db, standardise
from esc_lib.companions.binaural.study import (
    LEVELS_ONLY,
    PUBLISHED_DEG,
    PUBLISHED_M,
    ROOMS,
    STRONGEST,
    around,
    draw,
    judge_network,
    judge_rivals,
    make_study,
    parameters_m,
    same_sound,
    sizes,
    variants,
)
from esc_lib.companions.binaural.training import fit
