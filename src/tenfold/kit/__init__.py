"""Parts that could be libraries of their own. They know nothing of tenfold."""
