"""What ``globals()`` returns in a cell."""


class dict(dict):
    """The variables by name. It is a copy whose changes are made to the variables as well."""

    def __setitem__(self, name, value):
        _bind(name, value)
        super().__setitem__(name, value)

    def __delitem__(self, name):
        super().__delitem__(name)
        _unbind(name)

    def pop(self, name, *default):
        value = super().pop(name, *default)
        _unbind(name)
        return value

    def setdefault(self, name, default=None):
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, other=(), /, **names):
        pairs = other.items() if hasattr(other, "items") else other
        for name, value in [*pairs, *names.items()]:
            self[name] = value
