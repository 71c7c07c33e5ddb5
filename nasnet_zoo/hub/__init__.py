"""The networks in KerasHub: a backbone, and a corrected RetinaNet.

Import it before loading a saved model with one of its classes.
"""

from .backbone import NASNetBackbone
from .retinanet import AnchorTargets, PerClassSuppression, PyramidAnchors, RetinaNet

__all__ = ["AnchorTargets", "NASNetBackbone", "PerClassSuppression", "PyramidAnchors", "RetinaNet"]
