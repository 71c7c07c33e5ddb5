"""The classifier's layer, which knows the names of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from nasnet_zoo.checking import check


# Named as Keras's own: files of weights name layers by their class.
@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Dense(keras.layers.Dense):
    """Keras's dense layer, with the names of the classes that its outputs stand for.

    Args:
        units: number of classes.
        class_names: one for each class, in the order of the outputs, or None.
        **kwargs: those of `keras.layers.Dense`.

    Raises:
        ValueError: if there is not one name for each class.
    """

    def __init__(self, units: int, class_names: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check("class_names", class_names, tuple[str, ...] | None)
        if class_names is not None and len(class_names) != units:
            raise ValueError(
                f"Expected class_names: one for each of {units} classes. "
                f"Received: {len(class_names)} names"
            )
        self.class_names = None if class_names is None else tuple(class_names)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = None if self.class_names is None else list(self.class_names)
        return {**super().get_config(), "class_names": names}
