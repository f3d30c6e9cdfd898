"""The worker's side: what a cell may write. The policy, the guards, and the modules that cells import."""
