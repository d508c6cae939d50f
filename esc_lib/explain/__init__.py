"""Why this decision: the sound that made it, by our method, rivals and controls, and its scores."""

from esc_lib.explain import checks, findings, gallery, masks, portraits, scores
from esc_lib.explain.components import Choice, fit, open_dictionaries
from esc_lib.explain.conditions import CONDITIONS, take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.folds import collect, explain_fold, explain_folds
from esc_lib.explain.heatmaps import gradcam
from esc_lib.explain.judge import by_energy
from esc_lib.explain.methods import EQUALISER, METHODS, OURS, cost, names_of
from esc_lib.explain.scores import map_correlations
from esc_lib.explain.sound_explainer import SoundExplainer
