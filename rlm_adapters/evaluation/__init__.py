"""Evaluating models and settings on tasks that are made from seeds; see docs/evaluation.md."""
