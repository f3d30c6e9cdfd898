"""Modules whose source runs under the same policy as the cells (see `facades.environment.Environment.run_guest`)."""
