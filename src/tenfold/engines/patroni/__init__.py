"""The patroni engine."""
