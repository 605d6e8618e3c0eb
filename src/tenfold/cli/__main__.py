"""`python -m tenfold.cli`: the `tenfold` command without its script."""

from tenfold.cli import main

main()
