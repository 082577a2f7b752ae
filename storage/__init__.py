"""Where facts and the ledger are kept."""
