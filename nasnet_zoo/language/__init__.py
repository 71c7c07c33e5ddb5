"""Language models of recurrent cells ([Z] section 4.2)."""

import lazy_loader

from nasnet_zoo.lazy import follow_keras

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

follow_keras("nasnet_zoo.language.model")
