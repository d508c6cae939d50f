"""Where a sound comes from: heads, rooms, rendering, a transformer, its rivals and its attention.

Azimuths are degrees, anticlockwise seen from above: 0 ahead, 90 left, 180 behind, 270 right.
"""
