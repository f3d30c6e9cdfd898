"""The worker's side: what code a cell may contain. The policy, the guards, and the modules that cells can import."""
