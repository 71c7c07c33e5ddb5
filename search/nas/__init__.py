"""The spaces of the predecessor, Neural Architecture Search ([Z]), on the search machine."""
