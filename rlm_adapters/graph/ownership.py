"""Whose content a run stores: its thread's where a saver keeps it, else its own, which goes at its end."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from rlm_adapters.graph.langgraph_private import saver_around
from rlm_adapters.values.content import ContentStore, OwnedStore
from rlm_adapters.values.refs import run_owner, thread_owner


def content_of(store: ContentStore, checkpointer: Any, config: RunnableConfig | None) -> OwnedStore:
    """The store for a run tree that begins here.

    Args:
        store: of the graph's configuration.
        checkpointer: of the graph; its cipher, if it has one, seals the content as well.
        config: that the graph was called with; a graph around this one gives its saver and thread in it.
    """
    called = ensure_config(config)
    saver = saver_around(called) or checkpointer
    serializer = getattr(saver, "serde", None)
    if store.cipher is None and isinstance(serializer, EncryptedSerializer):
        store = store.sealed(serializer.cipher)
    thread = (called.get("configurable") or {}).get("thread_id")
    saved = saver is not None and not isinstance(saver, bool) and thread is not None
    return store.of(thread_owner(thread) if saved else run_owner())


def is_saved(config: RunnableConfig) -> bool:
    """Whether a saver, the graph's own or one of a graph around it, keeps the results of single tasks."""
    return bool(saver_around(config))
