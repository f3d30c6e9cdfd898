"""A pytest plugin that points DSPy's own tests at other classes: ``pytest -p tests.dspy.pointed``.

``POINTED_RLM`` and ``POINTED_INTERPRETER`` name a class as ``module:Class``; the suite then finds it wherever it would
have found dspy.RLM, or dspy's interpreters.
"""

import importlib
import os


def _named(variable):
    name = os.environ.get(variable)
    if not name:
        return None
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def pytest_collection_modifyitems(items):
    import dspy
    from dspy.primitives.python_interpreter import PythonInterpreter

    rlm, interpreter = _named("POINTED_RLM"), _named("POINTED_INTERPRETER")
    modules = {item.module for item in items}
    if rlm is not None:
        dspy.RLM = rlm
        for module in modules:
            if "RLM" in vars(module):
                module.RLM = rlm
    if interpreter is None:
        return
    constructor = dspy.RLM.__init__
    defaults = constructor.__defaults__ or ()
    constructor.__defaults__ = tuple(interpreter if one is PythonInterpreter else one for one in defaults)
    for module in [*modules, dspy]:
        for name in ("PythonInterpreter", "LocalInterpreter"):
            if name in vars(module):
                setattr(module, name, interpreter)

    def fresh(_interpreter_pool):
        made = interpreter()
        yield made
        made.shutdown()

    for item in items:
        for definition in item._fixtureinfo.name2fixturedefs.get("pooled_interpreter", ()):
            definition.func = fresh  # DSPy's pool knows how to reset only its own interpreter
