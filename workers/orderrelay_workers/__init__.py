"""The workers: they book accepted orders, submit them to SoftOne GO, and keep the ledger and the audit."""
