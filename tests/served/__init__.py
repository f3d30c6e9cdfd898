"""The graphs of graphs/ on real servers."""
