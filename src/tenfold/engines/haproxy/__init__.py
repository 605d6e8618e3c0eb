"""The haproxy engine."""
