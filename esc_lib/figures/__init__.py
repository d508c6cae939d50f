"""Figures, one module per notebook: functions take data and return a figure."""
