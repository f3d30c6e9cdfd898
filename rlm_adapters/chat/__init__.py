"""The parts of `rlm_adapters.chat_model.ChatRLM`."""
