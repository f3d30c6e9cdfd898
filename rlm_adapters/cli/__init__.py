"""The command `rlm`."""
