"""Which clips there are, and on which side of a split each stands."""

from esc_lib.data.clips import WAVEFORMS, Data, open_data, save_data
from esc_lib.data.decoding import characteristics, decode, describe
from esc_lib.data.esc50 import labelled, major_category, thesis_group
from esc_lib.data.folders import prepare
from esc_lib.data.listeners import read_answers
from esc_lib.data.splits import (
    COMPARED,
    leaked_share,
    name_parts,
    shared_sources,
    split,
    straddling_sources,
)
from esc_lib.data.table import read_clips
