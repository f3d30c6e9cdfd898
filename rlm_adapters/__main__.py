"""``python -m rlm_adapters`` is the command ``rlm``."""

from rlm_adapters.cli.main import main

main()
