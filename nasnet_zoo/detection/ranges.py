"""Ranges of a detector's sizes: beyond them its memory runs to tens of GB. Imports no backend."""

from typing import Annotated

from annotated_types import Interval

Count = Annotated[int, Interval(ge=1, le=10_000)]
Filters = Annotated[int, Interval(ge=1, le=4096)]
CropSize = Annotated[int, Interval(ge=2, le=64)]
AnchorSize = Annotated[float, Interval(ge=1, le=10_000)]
AspectRatio = Annotated[float, Interval(ge=0.01, le=100)]
#: Height and width in pixels of the square that an image is brought into. Below 16 the map that
#: proposals come from has one place.
ImageSize = Annotated[int, Interval(ge=16, le=4096)]
