"""Cells: primitives, operations, genotypes, and the Keras layers built from them.

Sources are cited by tags, such as [N], which docs/references.md lists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
