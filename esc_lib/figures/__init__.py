"""Figures, one module per subject: functions take data and return a figure, or an element."""
