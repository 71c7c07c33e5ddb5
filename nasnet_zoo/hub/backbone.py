"""A network of the zoo as a backbone of KerasHub."""

from __future__ import annotations

from typing import Any

import keras

from nasnet_zoo.extras import import_extra
from nasnet_zoo.models import create_model
from nasnet_zoo.network import feature_extractor

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
        network: a model of this package, new or loaded, with or without its classifier, whose weights
            are shared; or a name of `nasnet_zoo.list_models()`, which is then built with new weights.
            It may have been built at one image size: the backbone takes any.
        **kwargs: of `keras_hub.models.Backbone`: ``name`` and ``trainable``.

    Raises:
        ValueError: if the network is not of this package, or has no such states (a CIFAR stem).
        ImportError: if KerasHub is not installed.

    Example::

        backbone = NASNetBackbone(NASNetMobile(weights="imagenet", include_top=False))
        pyramid = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=7, use_p5=False)
    """

    def __init__(self, network: keras.Model | str, **kwargs: Any) -> None:
        if isinstance(network, str):
            network = create_model(network, include_top=False)

        # === Functional Model ===
        states = feature_extractor(network, list(_STRIDES.values())).outputs
        outputs = [network.get_layer("Head_ReLU").output, *states]
        images = keras.Input((None, None, network.input.shape[-1]), name="images")
        # The layers themselves, not copies, on an input of any size.
        features, *states = keras.models.clone_model(
            keras.Model(network.input, outputs), images, clone_function=lambda layer: layer
        ).outputs
        super().__init__(inputs=images, outputs=features, **kwargs)
        self.pyramid_outputs = dict(zip(_STRIDES, states, strict=True))

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; the network as a serialised Keras model."""
        network = keras.Model(self.input, [self.output, *self.pyramid_outputs.values()])
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(network)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NASNetBackbone:
        """A backbone of the same kind, with new weights."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return super().from_config({**config, "network": network})
