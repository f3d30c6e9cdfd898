"""Traces: write the events of runs into a file, and read them again."""
