"""``nest_asyncio``: event loops nest here anyway."""


def apply(loop=None):
    """Do nothing."""
