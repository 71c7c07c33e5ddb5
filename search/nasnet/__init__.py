"""NASNet's cells on the search machine: their space, their children, and a table of a small space."""
