"""What an app imports through `tenfold`: ASGI wrapping and the database."""
