"""Models whose batch norm is that of a trained network, without the training."""

import keras
import numpy as np

from nasnet_zoo.cells import Hyperparameters
from nasnet_zoo.models import NASNet

#: The moving statistics are those of the last batch.
HYPERPARAMETERS = Hyperparameters(bn_momentum=0.0)


def images(batch, size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def settled(model, size):
    """Draws batch norm's scales and offsets, and takes its statistics from a batch."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("bn_scale", "norm_scale")):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        elif variable.path.endswith(("bn_offset", "norm_offset")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    model(images(4, size, seed=9), training=True)
    return model


def network(genotype, size, **arguments):
    """A small CIFAR network of a genotype for images of ``size``."""
    arguments = {"classes": 7, "input_shape": (*size, 3), **arguments}
    keras.utils.set_random_seed(0)
    model = NASNet(genotype, 1, 5, "cifar", 6, hyperparameters=HYPERPARAMETERS, **arguments)
    return settled(model, size)
