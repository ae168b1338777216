"""What FORMAT.md fixes about a prior, written once: neither torch nor numpy is imported."""
