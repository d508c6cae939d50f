"""From notebook to book: a chapter's inputs and outputs, conversion, execution, the record."""

from esc_lib.study.chapter import Chapter, find, root
from esc_lib.study.metrics import Metric
from esc_lib.study.source import source
