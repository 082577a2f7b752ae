"""The stream job: facts in, ledger out."""
