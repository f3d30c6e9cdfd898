"""The worker's side: the confined process that runs cells, and the zygote that forks it."""
