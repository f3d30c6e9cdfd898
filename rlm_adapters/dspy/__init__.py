"""The parts of the DSPy module (`rlm_adapters.RLM`), one idea each. Needs the ``dspy`` extra."""
