"""Code of both sides: frames, types, encodings and exit codes that host and worker share."""
