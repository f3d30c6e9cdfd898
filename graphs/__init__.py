"""Graphs that LangGraph's server and Studio serve."""
