"""The worker's side, below the language: output, files, calls to the host, the clock."""
