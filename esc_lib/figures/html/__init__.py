"""What moves and sounds in a page."""
