"""Views of a run. They read its events."""
