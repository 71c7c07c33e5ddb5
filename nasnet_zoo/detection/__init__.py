"""Object detection: Faster R-CNN on the networks of the zoo."""

from .faster_rcnn import FasterRCNN
from .halves import split_network
from .matching import CROWD, PADDING

__all__ = ["CROWD", "PADDING", "FasterRCNN", "split_network"]
