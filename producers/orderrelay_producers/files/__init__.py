"""Orders from files: JSON lines, JSON arrays and CSV, read in bounded memory, the same ids at every run."""
