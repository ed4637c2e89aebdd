"""What happened: the vendor's answers, typed and verbatim, and who did what. Append-only."""
