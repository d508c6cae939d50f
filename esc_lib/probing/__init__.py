"""What a hidden layer holds, what it does, and what a classifier hears beside the sound."""

from esc_lib.probing import cues, shortcuts
