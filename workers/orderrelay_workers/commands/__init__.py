"""The commands of workers and operators; each imports what is heavy only when it runs."""
