"""Which clips there are, and on which side of a split each stands."""

from esc_lib.data.folders import prepare
