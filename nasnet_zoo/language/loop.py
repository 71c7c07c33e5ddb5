"""The layers of a language model as loops with gradients of their own, for TensorFlow.

`keras.layers.RNN` multiplies the inputs with their matrices step by step, and the gradient of its loop
keeps and reads every tensor of every node. But what a tree computes of its products is elementwise:
once the states are known its derivatives are those of all steps at once, so that the loop forward has
the product with h alone, and the loop backward one product and a few sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from nasnet_zoo.cells import RecurrentCell, RecurrentGenotype
from nasnet_zoo.cells.recurrent import recurrent_step

from .model import LanguageModel

# h and c.
Pair = tuple[tf.Tensor, tf.Tensor]


class FastRNN(keras.layers.RNN):
    """`keras.layers.RNN` for `LanguageModel`, whose trees have no bias and no projection."""

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return the last output, all outputs and the last states."""
        cell = self.cell
        if not isinstance(cell, RecurrentCell):
            return super().inner_loop(sequences, initial_state, mask, training)
        h, c = initial_state
        kept = 1.0
        if training and cell.dropout:
            sequences *= cell.get_dropout_mask(sequences[:, 0])[:, None]
        if training and cell.recurrent_dropout:
            kept = cell.get_recurrent_dropout_mask(h)
        x = tf.tensordot(tf.transpose(sequences, (1, 0, 2)), tf.convert_to_tensor(cell.kernel), 1)
        kernel = tf.convert_to_tensor(cell.recurrent_kernel)
        hs, cs = recurrent_loop(cell.genotype, kept)(x, kernel, h, c)
        return hs[-1], tf.transpose(hs, (1, 0, 2)), [hs[-1], cs[-1]]


class FastLanguageModel(LanguageModel):
    """A `LanguageModel` that trains faster on TensorFlow. It has the same weights, and is not saved."""

    layer_class = FastRNN

    def product(self, x: Any, kernel: Any) -> Any:
        """Return the product of all rows at once, whose gradient is no sum of one for each sequence."""
        return tf.tensordot(x, kernel, 1)


def recurrent_loop(genotype: RecurrentGenotype, kept: tf.Tensor | float = 1.0) -> Callable[..., Pair]:
    """Return the function that computes a cell over sequences.

    Args:
        genotype: The cell, of base b.
        kept: Recurrent dropout: what h is multiplied with before its product, (batch, units) or 1.

    Returns:
        Function of the products of the inputs (steps, batch, b * units), the recurrent kernel (units,
        b * units), and h and c before the first step (batch, units). It returns h and c after each step
        (steps, batch, units).
    """
    base = genotype.base

    def step(x: tf.Tensor, m: tf.Tensor, c: tf.Tensor) -> Pair:
        return recurrent_step(genotype, tf.split(x, base, -1), tf.split(m, base, -1), c)

    def chained(gradients: Sequence[tf.Tensor], derivatives: Sequence[tf.Tensor]) -> tf.Tensor:
        """The gradients of h and c, by their derivatives after the products of all leaves."""
        of_h, of_c = (tf.concat([gradient] * base, -1) for gradient in gradients)
        return of_h * derivatives[0] + of_c * derivatives[1]

    @tf.custom_gradient
    def run(x: tf.Tensor, kernel: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[Pair, Any]:
        after = tf.scan(lambda s, x: step(x, tf.matmul(s[0] * kept, kernel), s[1]), x, (h, c))

        def gradient(*of_after: tf.Tensor) -> tuple[tf.Tensor, ...]:
            before = [tf.concat([s[None], a[:-1]], 0) for s, a in zip((h, c), after, strict=True)]
            read, c_before = before[0] * kept, before[1]
            m = tf.tensordot(read, kernel, 1)
            with tf.GradientTape(persistent=True) as tape:
                tape.watch((x, m, c_before))
                found = step(x, m, c_before)
            # A sum has the derivatives of its terms where each has arguments of its own.
            derivatives = [
                tape.gradient(s, (x, m, c_before), unconnected_gradients="zero") for s in found
            ]
            by_x, by_m, by_c = zip(*derivatives, strict=True)

            def back(carried: Pair, now: tuple[Pair, Pair, Pair]) -> Pair:
                of_now, by_m, by_c = now
                of_h, of_c = (g + later for g, later in zip(of_now, carried, strict=True))
                of_m = chained((of_h, of_c), by_m)
                return tf.matmul(of_m, kernel, transpose_b=True) * kept, of_h * by_c[0] + of_c * by_c[1]

            zeros = tf.zeros_like(h), tf.zeros_like(c)
            carried = tf.scan(back, (of_after, by_m, by_c), zeros, reverse=True)
            of_states = [
                g + tf.concat([later[1:], zero[None]], 0)
                for g, later, zero in zip(of_after, carried, zeros, strict=True)
            ]
            of_m = chained(of_states, by_m)
            of_kernel = tf.tensordot(read, of_m, ((0, 1), (0, 1)))
            return chained(of_states, by_x), of_kernel, carried[0][0], carried[1][0]

        return after, gradient

    return run
