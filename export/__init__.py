"""From a Keras model to files that run elsewhere, and the runtimes that run them."""
