"""Measurements that anyone can repeat: ``python -m benchmarks`` runs all, ``python -m benchmarks.NAME`` one.

Figures of a machine mean little by themselves, so each is given with its ratio to a baseline of the same run.
"""
