from .faster_rcnn import FasterRCNN
from .halves import split_network
from .matching import CROWD, PADDING

__all__ = ["CROWD", "PADDING", "FasterRCNN", "split_network"]
