"""Questions, their choices, and who voted."""
