"""``logging`` of the cells: to the cell's output."""

NOTSET, DEBUG, INFO, WARNING, ERROR, CRITICAL = 0, 10, 20, 30, 40, 50
WARN, FATAL = WARNING, CRITICAL
_NAMES = {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_LOGGERS = {}


def getLevelName(level):
    """The name of a level."""
    return _NAMES.get(level, f"Level {level}")


def _number(level):
    if isinstance(level, str):
        return {name: number for number, name in _NAMES.items()}[level.upper()]
    return level


class Handler:
    """Takes no records: loggers print by themselves."""

    def __init__(self, *args, **kwargs):
        pass

    def setLevel(self, level):
        pass

    def setFormatter(self, formatter):
        pass


class StreamHandler(Handler):
    """A handler."""


class FileHandler(Handler):
    """A handler."""


class NullHandler(Handler):
    """A handler."""


class Formatter:
    """A format, which is not used."""

    def __init__(self, *args, **kwargs):
        pass


class Logger:
    """Prints messages at or above its level."""

    def __init__(self, name, level=NOTSET):
        self.name = name
        self.level = level
        self.handlers = []
        self.propagate = True
        self.disabled = False

    def setLevel(self, level):
        self.level = _number(level)

    def getEffectiveLevel(self):
        return self.level or _LOGGERS["root"].level

    def isEnabledFor(self, level):
        return not self.disabled and level >= self.getEffectiveLevel()

    def addHandler(self, handler):
        self.handlers.append(handler)

    def removeHandler(self, handler):
        self.handlers = [h for h in self.handlers if h is not handler]

    def hasHandlers(self):
        return bool(self.handlers)

    def log(self, level, msg, *args, exc_info=None, **kwargs):
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            print(f"{getLevelName(level)}:{self.name}:{text}")
            if exc_info:
                import traceback

                traceback.print_exc()

    def debug(self, msg, *args, **kwargs):
        self.log(DEBUG, msg, *args, **kwargs)

    def info(self, msg, *args, **kwargs):
        self.log(INFO, msg, *args, **kwargs)

    def warning(self, msg, *args, **kwargs):
        self.log(WARNING, msg, *args, **kwargs)

    warn = warning

    def error(self, msg, *args, **kwargs):
        self.log(ERROR, msg, *args, **kwargs)

    def critical(self, msg, *args, **kwargs):
        self.log(CRITICAL, msg, *args, **kwargs)

    fatal = critical

    def exception(self, msg, *args, **kwargs):
        self.log(ERROR, msg, *args, exc_info=True, **kwargs)


root = _LOGGERS["root"] = Logger("root", WARNING)


def getLogger(name=None):
    """The logger of that name."""
    if name is None:
        return root
    return _LOGGERS.setdefault(name, Logger(name))


def basicConfig(*, level=None, **kwargs):
    """Set the level of the root logger."""
    if level is not None:
        root.setLevel(level)


def disable(level=CRITICAL):
    """Switch off messages up to a level."""
    root.setLevel(level + 1)


log = root.log
debug = root.debug
info = root.info
warning = warn = root.warning
error = root.error
critical = fatal = root.critical
exception = root.exception
