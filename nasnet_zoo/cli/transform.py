"""``nasnet-zoo transform``."""

from __future__ import annotations

from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, parse

from .shared import Json, Limit


def transform(
    model: str,
    /,
    *,
    out: str,
    wider: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="LAYER=N")] = (),
    deeper: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="LAYER")] = (),
    condense: bool = False,
    kernel_size: PositiveInt | None = None,
    images: Annotated[
        str | None,
        arg(
            metavar="DATA",
            help="Data set, as of `nasnet-zoo train`, on whose training images the statistics of new "
            "batch norms are measured. Needed for --deeper where ReLU comes before a layer.",
        ),
    ] = None,
    limit: Limit = 200,
    noise: NonNegativeFloat = 0.0,
    seed: Seed = 0,
    json: Json = None,
) -> dict[str, Any]:
    """Make a trained model wider, deeper or condensed, so that it computes the same.

    All layers of --wider are widened first, in order, then those of --deeper follow, then --condense.

    Args:
        model: A .keras file.
        out: The .keras file to write.
        wider: A layer, and the number of its filters or units afterwards.
        deeper: A layer behind which one that computes the identity is inserted.
        condense: Leave of a CondenseNet the channels that its groups read at the end of its training.
        kernel_size: Height and width of the kernels of --deeper. Default: those of the layers.
        noise: Standard deviation of the noise on new kernels, as a share of the kernels'. 0 keeps what
            the model computes.
        seed: Seed of the choice of channels and of the noise.

    Example:
        nasnet-zoo transform model.keras --out wider.keras --wider Stem_Conv=48
    """
    widths = [_width(text) for text in wider]
    if not widths and not deeper and not condense:
        raise ValueError("Expected --wider, --deeper or --condense. Received: none of them")
    if not out.endswith(".keras"):
        raise ValueError(f"{out}: expected the name of a .keras file to write. Received: another one")

    from nasnet_zoo.files import check_writable, replacing
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.saving import load_model
    from nasnet_zoo.transform import condense as condensed
    from nasnet_zoo.transform import net2deeper, net2wider

    check_writable(out, [model])
    start_backend()
    network = load_model(model)
    before = network.count_params()
    sample = _sample(images, network, limit) if images else None
    for layer, units in widths:
        network = net2wider(network, layer, units, noise=noise, seed=seed)
    for layer in deeper:
        network = net2deeper(
            network, layer, kernel_size=kernel_size, images=sample, noise=noise, seed=seed
        )
    if condense:
        network = condensed(network)
    with replacing(out) as temporary:
        network.save(temporary)
    after = network.count_params()
    print(f"{out}: {after:,} parameters, {before:,} before")
    return {"out": out, "parameters": after, "parameters_before": before}


def _width(text: str) -> tuple[str, int]:
    """A layer and its width."""
    layer, _, units = text.rpartition("=")
    if not layer:
        raise ValueError(f"Expected --wider LAYER=N. Received: {text!r}")
    return layer, parse(f"--wider {layer}", units, PositiveInt)


def _sample(data: str, network, limit: int):
    """Training images of a data set, as the model takes them."""
    from nasnet_zoo.data import open_dataset
    from nasnet_zoo.export.from_keras import image_shape, rescales
    from nasnet_zoo.export.quantization import as_model_input
    from nasnet_zoo.network import functional

    from .comparison import sample_training_images

    images = sample_training_images(open_dataset(data), image_shape(functional(network), None), limit)
    return as_model_input(images, not rescales(network))
