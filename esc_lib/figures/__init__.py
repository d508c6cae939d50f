"""Figures, one module per subject: functions take data and return a figure, or an element."""

from esc_lib.figures.rows import interval_rows
