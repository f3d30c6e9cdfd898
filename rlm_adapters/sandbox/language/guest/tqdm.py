"""``tqdm`` of the cells: no bar, since nobody watches it."""


class tqdm:
    """Iterates and counts."""

    def __init__(self, iterable=None, desc=None, total=None, **kwargs):
        self._iterable = iterable if iterable is not None else ()
        self.n = 0
        self.total = total

    def __iter__(self):
        return iter(self._iterable)

    def __len__(self):
        return self.total if self.total is not None else len(self._iterable)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        pass

    def update(self, n=1):
        self.n += n

    def set_description(self, desc=None, refresh=True):
        pass

    def set_postfix(self, *args, **kwargs):
        pass

    def close(self):
        pass

    @classmethod
    def write(cls, s, *args, **kwargs):
        print(s)


def trange(*args, **kwargs):
    """``tqdm(range(...))``."""
    return tqdm(range(*args), **kwargs)
