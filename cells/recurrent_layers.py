"""Keras RNN cells that compute recurrent genotypes, for `keras.layers.RNN`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# `keras.layers.RNN` draws and frees the masks of cells of this class alone.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from nasnet_zoo.checking import DropRate, PositiveInt, checked

from .nascell import NASCELL
from .recurrent import RecurrentGenotype, recurrent_step


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class RecurrentCell(DropoutRNNCell, keras.layers.Layer):
    """A recurrent cell of any genotype ([Z] section 3.4).

    Its states are ``[h, c]``, as those of `keras.layers.LSTMCell`: Keras takes the first one for the
    output of a masked step. All leaves' products with the input are one matrix product, and those with
    h another.

    Args:
        genotype: `RecurrentGenotype`, or its dict.
        units: Size of c, H.
        projection: Size of the output h, a matrix product of the root. Default: H, without a product.
        use_bias: Whether each leaf has a bias. It is added to the product with h alone.
        dropout: Share of the inputs that training drops, in [0, 1), the same at all steps of a
            sequence.
        recurrent_dropout: Share of h that training drops, in [0, 1), the same at all steps of a
            sequence (variational dropout: Gal & Ghahramani, arXiv 1512.05287).
        kernel_initializer: Initializer of the kernel (inputs, b * H) of b leaves.
        recurrent_initializer: Initializer of the recurrent kernel (outputs, b * H).
        projection_initializer: Initializer of the projection kernel (H, outputs).
        bias_initializer: Initializer of the bias (b * H,).
        seed: Seed of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor (batch, inputs).
        states: List of h (batch, outputs) and c (batch, H).
        training: Whether dropout acts.

    Raises:
        ValueError: If an argument is out of range.

    Example::

        cell = RecurrentCell(NASCELL_MAX, units=128, recurrent_dropout=0.3)
        sequences = keras.layers.RNN(cell, return_sequences=True)(inputs)
    """

    @checked
    def __init__(
        self,
        genotype: RecurrentGenotype | dict[str, Any],
        units: PositiveInt,
        projection: PositiveInt | None = None,
        use_bias: bool = False,
        dropout: DropRate = 0.0,
        recurrent_dropout: DropRate = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "glorot_uniform",
        projection_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(genotype, dict):
            genotype = RecurrentGenotype.from_dict(genotype)
        self.genotype = genotype
        self.units, self.projection, self.use_bias = units, projection, use_bias
        self.dropout, self.recurrent_dropout, self.seed = dropout, recurrent_dropout, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.output_size = units if projection is None else projection
        self.state_size = [self.output_size, units]

    def build(self, input_shape: Any) -> None:
        width = self.genotype.base * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.output_size, width),
            initializer=self.recurrent_initializer,
        )
        if self.projection is not None:
            self.projection_kernel = self.add_weight(
                name="projection_kernel",
                shape=(self.units, self.projection),
                initializer=self.projection_initializer,
            )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(width,), initializer=self.bias_initializer)

    def call(self, inputs: Any, states: Sequence[Any], training: bool = False) -> tuple[Any, list[Any]]:
        h, c = states
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        if training and self.recurrent_dropout:
            h = h * self.get_recurrent_dropout_mask(h)
        x, m = ops.matmul(inputs, self.kernel), ops.matmul(h, self.recurrent_kernel)
        if self.use_bias:
            m = m + self.bias
        leaves = self.genotype.base
        x, m = ops.split(x, leaves, axis=-1), ops.split(m, leaves, axis=-1)
        h, c = recurrent_step(self.genotype, x, m, c)
        if self.projection is not None:
            h = ops.matmul(h, self.projection_kernel)
        return h, [h, c]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Return zeros for h and c."""
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    def get_config(self) -> dict[str, Any]:
        names = ("units", "projection", "use_bias", "dropout", "recurrent_dropout", "seed")
        kinds = ("kernel", "recurrent", "projection", "bias")
        initializers = {
            f"{kind}_initializer": keras.initializers.serialize(getattr(self, f"{kind}_initializer"))
            for kind in kinds
        }
        own = {"genotype": self.genotype.to_dict()} | {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, **initializers}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class NASCell(RecurrentCell):
    """The recurrent cell that the search found on Penn Treebank ([Z] Figure 8).

    It has 8H(inputs + H) parameters without projection and bias, and computes what ``NASCell`` of
    TensorFlow Addons does, whose states are in the other order, ``[c, h]``.

    Args:
        units: Size of c, H.
        projection: Size of the output h, a matrix product of the root. Default: H, without a product.
        use_bias: Whether each leaf has a bias. It is added to the product with h alone.
        **kwargs: Arguments of `RecurrentCell`.

    Example::

        outputs = keras.layers.RNN(nasnet_zoo.NASCell(128))(inputs)
    """

    def __init__(
        self,
        units: int,
        projection: int | None = None,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(NASCELL, units, projection, use_bias, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["genotype"]
        return config
