"""Our own ``.weights.h5`` files, as written by ``model.save_weights``.

Keras keeps the weights of a layer under its class's name, numbered in both cases, and notes the
layer's name beside them. Reading by that name lets a file be loaded into a model with another
classifier, without one, or with an auxiliary head.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from .hdf5 import datasets, open_hdf5
from .mapping import Source


@contextmanager
def open_zoo(path: str | os.PathLike[str]) -> Iterator[Source]:
    """A ``.weights.h5`` file of a model of ours as a source.

    Raises:
        ValueError: if it is not an HDF5 file, or another model's.
    """
    with open_hdf5(path) as file:
        found = {
            f"{data.parent.attrs.get('name', '')}/{where.split('/')[-1]}": data
            for where, data in datasets(file).items()
            # layers/<class>/vars/<index>: what lies deeper are counters of a training run.
            if where.startswith("layers/") and where.count("/") == 3
        }
        if "Stem_Conv/0" not in found:
            raise ValueError(
                "Expected a .weights.h5 file saved by a model of nasnet_zoo. Received: "
                f"{os.fspath(path)} (weights of keras.applications are read from the file that "
                "its model.save('model.h5') writes)"
            )
        yield Source(
            title=f"weights file {os.fspath(path)}",
            shapes={name: tuple(data.shape) for name, data in found.items()},
            read=lambda name: found[name][()],
            name_of=lambda target: f"{target.layer}/{target.index}",
            heads=("predictions/", "auxiliary/"),
        )
