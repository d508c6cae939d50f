"""V ~ W H: H read from a layer, W learned, and what its atoms look like."""

from esc_lib.dictionaries import atoms, judge, models
from esc_lib.dictionaries.fitting import fit_layer, try_smoothness
from esc_lib.dictionaries.gather import gather_once
from esc_lib.dictionaries.solvers import solve_exact
