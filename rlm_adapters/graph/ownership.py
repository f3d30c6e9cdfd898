"""The owner of a run's content: its thread if it is saved, else the run, whose content is deleted at its end."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from rlm_adapters.graph.langgraph_private import saver_around
from rlm_adapters.values.content import ContentStore, OwnedStore
from rlm_adapters.values.refs import run_owner, thread_owner


def content_of(store: ContentStore, checkpointer: Any, config: RunnableConfig | None) -> OwnedStore:
    """The store for a call tree that begins here.

    Args:
        store: of the graph's configuration.
        checkpointer: of the graph. If it has a cipher, the content is sealed, too.
        config: of the call. It has the checkpointer and thread of a graph around this one.
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
    """Whether a checkpointer, of this graph or a graph around it, saves the results of single tasks."""
    return bool(saver_around(config))
