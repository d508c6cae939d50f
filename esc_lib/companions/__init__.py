"""The other four systems, each with its own settings, network, training and figures."""
