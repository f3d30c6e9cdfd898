"""A module for each peer: all that is peculiar to it. Its package is imported in `make` only."""
