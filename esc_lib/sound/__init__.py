"""From waveform to spectrogram."""

from esc_lib.sound import augment
from esc_lib.sound.audio import add_noise, coloured_noise, read, resample, shift
from esc_lib.sound.log_mel import LogMel, librosa_difference_db, librosa_log_mel, mel_frequencies_hz
