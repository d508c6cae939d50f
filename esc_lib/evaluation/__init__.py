"""How good, and how sure: tables in, tables out."""

from esc_lib.evaluation import calibration, listeners, mistakes, runs
from esc_lib.evaluation.decisions import (
    by_recording,
    confused_pairs,
    confusion,
    error_clustering,
    per_class,
    roc,
)
from esc_lib.evaluation.intervals import (
    accuracy,
    accuracy_interval,
    mean_interval,
    paired_difference,
    source_draws,
)
