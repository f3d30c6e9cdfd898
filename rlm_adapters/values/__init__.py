"""Inputs and answers of users, and the store for big values."""
