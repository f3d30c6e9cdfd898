"""The parts of the DSPy module (`rlm_adapters.RLM`). Needs the extra ``dspy``."""
