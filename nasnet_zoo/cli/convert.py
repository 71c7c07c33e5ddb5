"""``nasnet-zoo convert``."""

from __future__ import annotations

from typing import Any, Literal

from nasnet_zoo.checking import PositiveInt

from .shared import Json


def convert(
    source: str,
    /,
    *,
    model: str,
    out: str,
    classes: PositiveInt | None = None,
    background: Literal["drop", "keep"] = "drop",
    include_top: bool = True,
    auxiliary_head: bool = False,
    json: Json = None,
) -> dict[str, Any]:
    """Convert weights of Keras, TF-Slim or timm.

    Loads weights into a model and saves them as a .weights.h5 file.

    Args:
        source: "imagenet", a .keras, .weights.h5 or .h5 file of Keras, a TF-Slim checkpoint or a
            .safetensors file.
        model: Name of a model, as `nasnet-zoo models` lists them.
        out: File to write, named *.weights.h5.
        classes: Number of classes of the model. A classifier of another number is not loaded. Default:
            that of the model's data set.
        background: What to do with class 0 of a TF-Slim or timm classifier of 1001 classes.
        include_top: Whether to convert the classifier.
        auxiliary_head: Whether to convert the auxiliary head.

    Example:
        nasnet-zoo convert model.ckpt-250000 --model nasnet_mobile --out mobile.weights.h5
    """
    from nasnet_zoo.convert import convert as convert_weights
    from nasnet_zoo.quiet import start_backend

    start_backend()
    report = convert_weights(
        source,
        model,
        out,
        classes=classes,
        background=background,
        include_top=include_top,
        auxiliary_head=auxiliary_head,
    )
    print(report)
    return {
        "out": out,
        "source": report.source,
        "loaded": len(report.loaded),
        "missing": dict(report.missing),
        "unused": report.unused,
    }
