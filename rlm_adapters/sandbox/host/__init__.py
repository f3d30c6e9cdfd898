"""The trusted side: it starts workers, sends cells, and does not trust any frame from a worker.

No code here runs a cell. Code of the worker does not import it.
"""
