"""NASNet's cells on the search machine: their space, shared weights, and a table of a small space."""
