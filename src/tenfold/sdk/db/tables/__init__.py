"""The tables that other parts of the SDK keep in the schema `tenfold`, one module a part; `schema` makes them."""
