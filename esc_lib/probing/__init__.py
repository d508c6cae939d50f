"""What a hidden layer does, rather than what correlates with it: by interfering with it."""

from esc_lib.probing import scores
from esc_lib.probing.atoms import first_in_rank
from esc_lib.probing.behind import Behind
from esc_lib.probing.examination import examine
from esc_lib.probing.measure import collect, probe_networks
from esc_lib.probing.scores import MEASURES
from esc_lib.probing.sparse import Sparse
