"""Elements of a page to be heard and moved; each holds all it needs, script and style too."""
