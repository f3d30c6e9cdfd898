"""The command ``rlm``, also as ``python -m rlm_adapters``."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C ends it at once, also while it is loading."""
    try:
        from rlm_adapters.cli.main import main as run  # noqa: PLC0415 - loading takes a while: see above

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
