"""``warnings`` of the cells."""


def warn(message, category=UserWarning, stacklevel=1, source=None, **kwargs):
    """Print a warning."""
    name = type(message).__name__ if isinstance(message, Warning) else category.__name__
    print(f"{name}: {message}")


def simplefilter(action, category=Warning, lineno=0, append=False):
    """Do nothing: warnings are few here."""


filterwarnings = resetwarnings = simplefilter


class catch_warnings:
    """Collects nothing."""

    def __init__(self, *, record=False, **kwargs):
        self._record = record

    def __enter__(self):
        return [] if self._record else None

    def __exit__(self, kind, value, traceback):
        pass
