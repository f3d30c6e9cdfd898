"""Confining a worker by the operating system: rlimits, Landlock and a seccomp allowlist, by ctypes alone.

This is the boundary of the sandbox. The language policy may be beaten (an independent attack found 14 ways out of
its prototype); what a cell can then reach is what this package leaves: memory up to a limit, CPU time, threads, and
one socket whose other end trusts nothing.
"""
