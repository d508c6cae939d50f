"""What the hidden layers of a sound classifier hold: the package behind the notebooks."""
