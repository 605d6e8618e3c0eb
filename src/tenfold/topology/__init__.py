"""What is wanted: the parsed `tenfold.toml`, as values. Pure: no clock, no I/O, no async (`load` reads one file).

`tiers` holds the models, `load` and `validate` turn text into them, `layout` says which servers and processes
they ask for, `rungs` knows the ladder, `edit` changes the file and keeps its comments.
"""
