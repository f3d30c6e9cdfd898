"""Both sides: frames, types, encodings and exit codes that the host and the worker share."""
