"""Helper package of the study: what the hidden layers of a sound classifier hold."""
