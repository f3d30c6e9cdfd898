"""Several workers on one PostgreSQL and one content store, one of them killed: ``make workers``, a short form of it here.

The workers are `examples/worker.py`, as its docs tell people to start them.
"""
