"""V ~ W H: H read from a layer, W learned, what its atoms look like, and what they are worth."""

from esc_lib.dictionaries import (
    atoms,
    controls,
    judge,
    level_free,
    models,
    stand_ins,
    untrained,
)
from esc_lib.dictionaries.fitting import fit_layer, try_smoothness
from esc_lib.dictionaries.gather import gather_once
from esc_lib.dictionaries.solvers import solve_exact
