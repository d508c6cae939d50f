"""What a hidden layer does, by interfering with it; what a classifier hears beside the sound."""

from esc_lib.probing import cues, findings, scores, shortcuts
from esc_lib.probing.atoms import first_in_rank
from esc_lib.probing.behind import Behind
from esc_lib.probing.examination import REACHED, examine
from esc_lib.probing.measure import by_width, collect, probe_networks
from esc_lib.probing.sparse import Sparse
