"""Children that classify images, on the search machine: what their spaces share."""
