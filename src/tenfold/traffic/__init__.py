"""The load generator and the ledger that proves what it saw."""
