"""Transformations of trained networks that keep what they compute: Net2Net and path-level ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
