"""Small models, Keras's own NASNet of any size, and its files, for the tests of weights."""

import h5py
import keras
import numpy as np
from keras.src.applications import nasnet
from keras.src.legacy.saving import legacy_h5_format

import nasnet_zoo as zoo


def tiny(cells=1, filters=8, stem_filters=8, genotype=zoo.NASNET_A, **arguments):
    """A NASNet-A of our own, for images of any size; as `tiny_keras` with the same arguments."""
    arguments.setdefault("input_shape", (None, None, 3))
    return zoo.NASNet(genotype, cells, filters, stem_filters=stem_filters, **arguments)


def tiny_keras(cells=1, filters=8, stem_filters=8, size=64, **arguments):
    """A NASNet-A of Keras's, which its public builders cannot make so small."""
    return nasnet.NASNet(
        (size, size, 3),
        24 * filters,
        cells,
        stem_filters,
        skip_reduction=False,
        weights=None,
        default_size=size,
        **arguments,
    )


def randomise(model, seed=0):
    """Makes batch norm's values random: fresh ones would hide exchanged layers."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            scale, variance = rng.uniform(0.5, 1.5, (2, *shape))
            offset, mean = rng.normal(0, 0.1, (2, *shape))
            layer.set_weights([scale, offset, mean, variance])
    return model


def save_legacy(model, path):
    """Writes the layer-name HDF5 format of the published files.

    Their format was established from `keras.applications.nasnet`, which reads them with
    ``load_weights`` of an ``.h5`` name: that is `legacy_h5_format.load_weights_from_hdf5_group`,
    whose counterpart this is. Keras 3 itself writes it only inside ``save("x.h5")``.
    """
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def images(height, width, count=2, seed=1):
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def run(model, x):
    """The model's output or outputs as arrays, without the time that compiling takes."""
    y = model(x, training=False)
    return [np.array(part) for part in y] if isinstance(y, list) else np.array(y)


def assert_same(ours, theirs, tolerance=1e-5):
    """Equal within ``tolerance`` of the largest value, and not because all of them are alike."""
    assert np.std(theirs) > 1e-2 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
