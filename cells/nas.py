"""The convolutional network of NAS as data ([Z] figure 7): NAS_V1.

Of the other two networks in the paper's table, v2 and v3, the layers were not published.
"""

from __future__ import annotations

from .layerwise import LayerGenotype, LayerwiseGenotype

# Figure 7 has the arrow from layer 1 to layer 10 twice; one counts.
NAS_V1 = LayerwiseGenotype(
    "NAS v1",
    (
        LayerGenotype((3, 3), 36),
        LayerGenotype((3, 3), 48, (1,)),
        LayerGenotype((3, 3), 36, (1, 2)),
        LayerGenotype((5, 5), 36, (1, 2, 3)),
        LayerGenotype((3, 7), 48, (3, 4)),
        LayerGenotype((7, 7), 48, (2, 3, 4, 5)),
        LayerGenotype((7, 7), 48, (2, 3, 4, 5, 6)),
        LayerGenotype((7, 3), 36, (1, 6, 7)),
        LayerGenotype((7, 1), 36, (1, 5, 6, 8)),
        LayerGenotype((7, 7), 36, (1, 3, 4, 5, 6, 7, 8, 9)),
        LayerGenotype((5, 7), 36, (1, 2, 5, 6, 7, 8, 9, 10)),
        LayerGenotype((7, 7), 48, (1, 2, 3, 4, 6, 11)),
        LayerGenotype((7, 5), 48, (1, 3, 6, 7, 8, 9, 10, 11, 12)),
        LayerGenotype((7, 5), 48, (3, 7, 12, 13)),
        LayerGenotype((7, 5), 48, (2, 7, 11, 12, 13, 14)),
    ),
)
