"""Views of a run: consumers of its events."""
