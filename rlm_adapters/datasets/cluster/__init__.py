"""Rows asked by actors on the nodes of a Ray cluster; see docs/ray.md."""
