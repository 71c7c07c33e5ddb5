"""TF-Slim's NASNet-A for ImageNet, written anew in plain TensorFlow to make checkpoints from.

It makes its variables as it goes, by the scopes of TF-Slim's released code, and so fixes both their
names and what is computed from them without a line of ours. Where each name comes from:

- ``conv0``, ``conv0_bn``, ``cell_stem_<k>``, ``cell_<k>``, ``reduction_cell_<k>``, ``final_layer`` and
  ``aux_<k>/aux_logits/{proj,aux_bn0,aux_bn1}``: scopes in nasnet.py;
- ``1x1``, ``beginning_bn``, ``prev_1x1``, ``prev_bn``, ``path1_conv``, ``path2_conv``,
  ``final_path_bn``, ``comb_iter_<k>/{left,right}``, ``separable_<n>x<n>_<k>`` and
  ``bn_sep_<n>x<n>_<k>``: scopes in nasnet_utils.py;
- ``FC``: the scope that nasnet.py's argument scopes give to ``fully_connected``; ``Conv``: the
  default scope of ``conv2d``, which the auxiliary head's second convolution keeps;
- ``weights``, ``biases``, ``depthwise_weights``, ``pointwise_weights``, ``gamma``, ``beta``,
  ``moving_mean`` and ``moving_variance``: variables of TF 1's contrib layers;
- ``<name>/ExponentialMovingAverage``: shadow variables of ``tf.train.ExponentialMovingAverage``,
  which train_image_classifier.py keeps and eval_image_classifier.py restores.
"""

from contextlib import contextmanager

import numpy as np
import tensorflow as tf

# The operations of nasnet_utils.py's two cells: (kind, kernel), each with the state it reads.
NORMAL = (
    (("sep", 5, 0), ("sep", 3, 1)),
    (("sep", 5, 1), ("sep", 3, 1)),
    (("avg", 3, 0), ("none", 0, 1)),
    (("avg", 3, 1), ("avg", 3, 1)),
    (("sep", 3, 0), ("none", 0, 0)),
)
REDUCTION = (
    (("sep", 5, 0), ("sep", 7, 1)),
    (("max", 3, 0), ("sep", 7, 1)),
    (("avg", 3, 0), ("sep", 5, 1)),
    (("none", 0, 3), ("avg", 3, 2)),
    (("sep", 3, 2), ("max", 3, 0)),
)


class SlimNASNet:
    """Call it on images to make ``variables`` (name to array) and get the logits."""

    def __init__(self, cells, filters, stem_filters, skip, classes=1001, seed=0):
        self.cells, self.filters, self.stem_filters = cells, filters, stem_filters
        self.skip, self.classes = skip, classes
        self.rng = np.random.default_rng(seed)
        self.variables = {}
        self.path = []

    @contextmanager
    def scope(self, name):
        self.path.append(name)
        yield
        self.path.pop()

    def variable(self, name, shape, low=None, high=None):
        full = "/".join([*self.path, name])
        if full not in self.variables:
            if low is None:
                fan_in = shape[0] * shape[1] * (1 if "depthwise" in name else shape[2])
                value = self.rng.normal(0, np.sqrt(2 / fan_in), shape)
            else:
                value = self.rng.uniform(low, high, shape)
            self.variables[full] = value.astype("float32")
        return self.variables[full]

    def conv(self, x, filters, kernel, scope, stride=1, padding="SAME"):
        with self.scope(scope):
            weights = self.variable("weights", (kernel, kernel, x.shape[-1], filters))
        return tf.nn.conv2d(x, weights, stride, padding)

    def batch_norm(self, x, scope):
        channels = x.shape[-1:]
        with self.scope(scope):
            beta = self.variable("beta", channels, -0.2, 0.2)
            gamma = self.variable("gamma", channels, 0.3, 0.9)
            mean = self.variable("moving_mean", channels, -0.2, 0.2)
            variance = self.variable("moving_variance", channels, 1, 3)
        return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    def dense(self, x):
        with self.scope("FC"):
            weights = self.variable("weights", (x.shape[-1], self.classes), -0.2, 0.2)
            return x @ weights + self.variable("biases", (self.classes,), -0.5, 0.5)

    def separable(self, x, filters, kernel, stride):
        for layer, step in ((1, stride), (2, 1)):
            x = tf.nn.relu(x)
            with self.scope(f"separable_{kernel}x{kernel}_{layer}"):
                shape = (kernel, kernel, x.shape[-1], 1)
                depthwise = self.variable("depthwise_weights", shape)
                pointwise = self.variable("pointwise_weights", (1, 1, x.shape[-1], filters))
            x = tf.nn.separable_conv2d(x, depthwise, pointwise, (1, step, step, 1), "SAME")
            x = self.batch_norm(x, f"bn_sep_{kernel}x{kernel}_{layer}")
        return x

    def operation(self, x, kind, kernel, filters, stride):
        if kind == "sep":
            return self.separable(x, filters, kernel, stride)
        if kind == "none":
            return x
        return tf.nn.pool(x, (kernel, kernel), kind.upper(), (stride, stride), "SAME")

    def previous(self, previous, current, filters):
        if previous is None:
            return current
        if previous.shape[2] != current.shape[2]:
            previous = tf.nn.relu(previous)
            shifted = tf.pad(previous, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
            paths = [
                self.conv(path[:, ::2, ::2], filters // 2, 1, f"path{k}_conv")
                for k, path in ((1, previous), (2, shifted))
            ]
            return self.batch_norm(tf.concat(paths, -1), "final_path_bn")
        if previous.shape[-1] != filters:
            previous = self.conv(tf.nn.relu(previous), filters, 1, "prev_1x1")
            return self.batch_norm(previous, "prev_bn")
        return previous

    def cell(self, scope, x, previous, filters, blocks, stride):
        with self.scope(scope):
            second = self.previous(previous, x, filters)
            first = self.batch_norm(self.conv(tf.nn.relu(x), filters, 1, "1x1"), "beginning_bn")
            states = [first, second]
            for number, block in enumerate(blocks):
                total = 0
                for side, (kind, kernel, state) in zip(("left", "right"), block, strict=True):
                    with self.scope(f"comb_iter_{number}"), self.scope(side):
                        step = stride if state < 2 else 1
                        total += self.operation(states[state], kind, kernel, filters, step)
                states.append(total)
        return tf.concat(states[1:] if blocks is NORMAL else states[3:], -1)

    def auxiliary(self, x, number):
        with self.scope(f"aux_{number}"), self.scope("aux_logits"):
            x = tf.nn.avg_pool2d(tf.nn.relu(x), 5, 3, "VALID")
            x = tf.nn.relu(self.batch_norm(self.conv(x, 128, 1, "proj"), "aux_bn0"))
            x = self.conv(x, 768, x.shape[1], "Conv", padding="VALID")
            return self.dense(tf.nn.relu(self.batch_norm(x, "aux_bn1"))[:, 0, 0])

    def __call__(self, images):
        """The logits of the classifier and of the auxiliary head."""
        x = self.conv(images, self.stem_filters, 3, "conv0", stride=2, padding="VALID")
        outputs = [None, self.batch_norm(x, "conv0_bn")]
        for k, filters in enumerate((self.filters // 4, self.filters // 2)):
            outputs.append(self.cell(f"cell_stem_{k}", outputs[-1], outputs[-2], filters, REDUCTION, 2))
        filters, auxiliary = self.filters, None
        for k in range(3 * self.cells):
            previous = outputs[-2]
            if k in (self.cells, 2 * self.cells):
                filters *= 2
                scope = f"reduction_cell_{k // self.cells - 1}"
                outputs.append(self.cell(scope, outputs[-1], outputs[-2], filters, REDUCTION, 2))
                if not self.skip:
                    previous = outputs[-2]
            outputs.append(self.cell(f"cell_{k}", outputs[-1], previous, filters, NORMAL, 1))
            if k == 2 * self.cells - 1:
                auxiliary = self.auxiliary(outputs[-1], k)
        with self.scope("final_layer"):
            logits = self.dense(tf.reduce_mean(tf.nn.relu(outputs[-1]), (1, 2)))
        return logits.numpy(), auxiliary.numpy()


def write_checkpoint(prefix, variables):
    """Writes a checkpoint by variable names, as TF 1's Saver does."""
    names = sorted(variables)
    tensors = [tf.constant(variables[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    return prefix
