"""NASNet for Keras: cells, networks, weights and exports.

The names of the package stand in ``__init__.pyi``. They are imported when they are used: the package
itself imports no backend.
"""

import os

import lazy_loader

from nasnet_zoo.lazy import follow_keras

# TensorFlow logs a warning, with its stack, of every error that it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

follow_keras("nasnet_zoo.network", "nasnet_zoo.cells.recurrent_layers", "nasnet_zoo.transform.paths")
