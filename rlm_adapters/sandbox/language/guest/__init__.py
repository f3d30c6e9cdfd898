"""Modules whose source is run under the same policy as the cells (see `facades.environment.Environment.run_guest`)."""
