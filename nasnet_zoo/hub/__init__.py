"""The networks of the zoo in KerasHub: its backbone, and its RetinaNet with what that needs to learn.

Import it before loading a saved model that holds one of its classes.
"""

from .backbone import NASNetBackbone
from .retinanet import AnchorTargets, PerClassSuppression, PyramidAnchors, RetinaNet

__all__ = ["AnchorTargets", "NASNetBackbone", "PerClassSuppression", "PyramidAnchors", "RetinaNet"]
