"""The trusted side: opens workers, sends cells, and treats every frame that comes back as hostile.

Nothing here runs a cell. Nothing on the worker's side imports it.
"""
