"""From a Keras model to files that run elsewhere, and the runtimes that run and check them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
