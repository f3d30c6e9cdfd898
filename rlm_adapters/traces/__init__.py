"""Traces: the events of runs in a file, and what is read back from it."""
