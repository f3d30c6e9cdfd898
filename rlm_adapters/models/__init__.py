"""Calls to language models: limits, budget, prices, retries, providers."""
