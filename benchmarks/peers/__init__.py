"""This package beside other RLM packages: ``python -m benchmarks.peers``.

Each peer has a virtual environment of its own. A scripted server writes the cells of a scenario in the peer's own reply
format, so engines are compared and not models. `docs/benchmarks.md` is the output.
"""
