"""What a hidden layer does, rather than what correlates with it: by interfering with it."""

from esc_lib.probing import findings, scores
from esc_lib.probing.atoms import first_in_rank
from esc_lib.probing.behind import Behind
from esc_lib.probing.examination import REACHED, examine
from esc_lib.probing.measure import by_width, collect, probe_networks
from esc_lib.probing.sparse import Sparse
