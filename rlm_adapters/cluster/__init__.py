"""Sandboxes on the nodes of a Ray cluster (extra ``ray``); see docs/ray.md.

`RaySandbox` is an executor as `Sandbox` is. Its sessions live in actors, each with an ordinary sandbox in it; the
journal stays with the caller, so that a session whose node is gone is rebuilt on another one.
"""
