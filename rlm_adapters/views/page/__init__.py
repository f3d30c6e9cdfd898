"""A run as one HTML page that loads nothing from the network."""
