"""A network as a backbone of KerasHub."""

from __future__ import annotations

from typing import Any

import keras

from nasnet_zoo.architecture import Architecture
from nasnet_zoo.cells import Cell
from nasnet_zoo.extras import import_extra
from nasnet_zoo.models import create_model, dtype_policy, from_architecture
from nasnet_zoo.network import architecture_of, feature_extractor

keras_hub: Any = import_extra("keras_hub", "hub")

_STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class NASNetBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network with an ImageNet stem, for KerasHub's detectors and segmenters.

    It takes images (batch, height, width, channels) in [-1, 1] (`nasnet_zoo.preprocess_input`) of any
    size and gives the features before pooling, as the network does with ``include_top=False``.
    ``pyramid_outputs`` are the last states at a quarter ("P2"), an eighth ("P3"), a sixteenth ("P4")
    and a thirty-second ("P5") of the image's size, as in `feature_extractor`: before a ReLU, and
    NASNet-B's labelled states concatenated.

    Args:
        network: Model of this package, new or loaded, with or without its classifier, whose weights
            are shared; a name of `nasnet_zoo.list_models()`, which is then built with new weights; or
            the network as plain data, as in the backbone's config. It may have been built at one image
            size: the backbone takes any.
        image_shape: Height, width and channels. Default: any size, and the network's channels.
        dtype: Policy of a network that is built. Default: that of the network, or Keras's own.
        **kwargs: ``name`` and ``trainable`` of `keras_hub.models.Backbone`.

    Raises:
        ValueError: If the network is not of this package, has no such states (a CIFAR stem), or has
            another policy than ``dtype``.
        ImportError: If KerasHub is not installed.

    Example::

        backbone = NASNetBackbone(NASNetMobile(weights="imagenet", include_top=False))
        pyramid = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=7, use_p5=False)
    """

    def __init__(
        self,
        network: keras.Model | str | dict[str, Any],
        image_shape: tuple[int | None, int | None, int] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(network, keras.Model):
            # An empty policy map is false, and still a policy.
            with dtype_policy(keras.config.dtype_policy() if dtype is None else dtype):
                network = _build(network)
        policy = network.get_layer("Head_ReLU").dtype_policy
        if dtype is not None and keras.dtype_policies.get(dtype).name != policy.name:
            raise ValueError(f"Expected the network's dtype {policy.name!r}. Received: {dtype=}")
        data = _as_data(network)

        # === Functional Model ===
        states = feature_extractor(network, list(_STRIDES.values())).outputs
        outputs = [network.get_layer("Head_ReLU").output, *states]
        image_shape = tuple(image_shape or (None, None, network.input.shape[-1]))
        images = keras.Input(image_shape, name="images")
        # Shares the layers, on an input of any size.
        features, *states = keras.models.clone_model(
            keras.Model(network.input, outputs), images, clone_function=lambda layer: layer
        ).outputs
        super().__init__(inputs=images, outputs=features, dtype=dtype or policy, **kwargs)
        self.pyramid_outputs = dict(zip(_STRIDES, states, strict=True))

        # === Config ===
        self.network = data
        self.image_shape = image_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data."""
        return {**super().get_config(), "network": self.network, "image_shape": self.image_shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NASNetBackbone:
        """Create a backbone of the same kind, with new weights."""
        # Backbones saved by version 0.1.0 hold the network as a serialised Keras model.
        if "class_name" in config["network"]:
            network = keras.saving.deserialize_keras_object(config["network"])
            config = {**config, "network": network}
        return super().from_config(config)


def _as_data(network: keras.Model) -> dict[str, Any]:
    """Return the data from which `_build` builds the same layers and weights."""
    cell = next(layer for layer in network.layers if isinstance(layer, Cell))
    data = {
        "architecture": architecture_of(network).to_dict(),
        "gradient_checkpointing": cell.gradient_checkpointing,
    }
    drop_path = cell.drop_path
    if drop_path:
        data["drop_path_keep"] = drop_path.keep_final
        data["drop_path_steps"] = int(drop_path.total_steps)
        data["drop_path_version"] = drop_path.version
    return data


def _build(network: str | dict[str, Any]) -> keras.Model:
    if isinstance(network, str):
        return create_model(network, include_top=False)
    architecture = Architecture.from_dict(network["architecture"])
    arguments = {**network, "architecture": architecture, "name": architecture.genotype.name}
    return from_architecture(**arguments, include_top=False)
