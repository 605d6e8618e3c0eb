"""A book of recipes."""
