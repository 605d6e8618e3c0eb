"""The shop's one connection to tenfold. Everything that touches the database imports `tf` from here."""

from tenfold import Tenfold

tf = Tenfold()
