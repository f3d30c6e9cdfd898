"""Attacks on the border on the host's side: data that would be a path, a reference, a key or a type."""
