"""The parts of `rlm_adapters.langchain.chat_model.ChatRLM`."""
