"""Sound to image and image to sound: the cross-modal networks, their data and their judges."""

from esc_lib.companions.crossmodal import evaluation, figures, study
from esc_lib.companions.crossmodal.judge import train_judge
from esc_lib.companions.crossmodal.settings import DIRECTIONS, FIRST, Settings, of_profile
from esc_lib.companions.crossmodal.spectrograms import pictures_of, waveform_of
