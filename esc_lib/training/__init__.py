"""One loop, and what trains on it: classifiers, as named runs that are compared."""

from esc_lib.training import checkpoint, comparisons, runs
from esc_lib.training.classifier import fit, initial_model
from esc_lib.training.prediction import accuracy, predict
