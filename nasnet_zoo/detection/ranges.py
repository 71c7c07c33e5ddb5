"""Ranges of a detector's sizes, beyond which it takes tens of GB of memory. Imports no backend."""

from typing import Annotated

from annotated_types import Interval

Count = Annotated[int, Interval(ge=1, le=10_000)]
Filters = Annotated[int, Interval(ge=1, le=4096)]
CropSize = Annotated[int, Interval(ge=2, le=64)]
AnchorSize = Annotated[float, Interval(ge=1, le=10_000)]
AspectRatio = Annotated[float, Interval(ge=0.01, le=100)]
#: Height and width in pixels of the square that an image is fitted into. Below 16 the feature map of
#: the proposals has only one position.
ImageSize = Annotated[int, Interval(ge=16, le=4096)]
