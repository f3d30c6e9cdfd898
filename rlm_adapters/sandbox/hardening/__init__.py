"""Confine a worker by the operating system with rlimits, Landlock and a seccomp allowlist, using only ctypes.

This is the boundary of the sandbox. The language policy can be bypassed: an independent review found 14 ways around its
prototype. Then a cell can still use only memory up to a limit, CPU time, threads, and one socket whose other end trusts
nothing.
"""
