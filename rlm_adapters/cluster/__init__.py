"""Sandboxes on the nodes of a Ray cluster (extra ``ray``); see docs/ray.md.

`RaySandbox` is an executor like `Sandbox`. Its sessions run in actors, each with an ordinary sandbox. The journal stays
with the caller, so a session of a lost node is rebuilt on another node.
"""
