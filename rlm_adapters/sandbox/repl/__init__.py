"""The worker's side: the namespace that cells share, and what is loaded before the first one."""
