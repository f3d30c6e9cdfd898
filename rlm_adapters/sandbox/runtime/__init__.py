"""The worker's side: what the language stands on: output, files, calls to the host, the clock."""
