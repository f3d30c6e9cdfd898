"""The worker's side: the namespace that cells share, and modules that are loaded before the first cell."""
