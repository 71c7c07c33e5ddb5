"""Fetches the published ImageNet weights, the HDF5 files of `keras.applications.nasnet`.

They are kept where Keras keeps them, so a file that either has fetched serves both.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import keras

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.network import places_of

#: Where the files are published.
BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/"

#: By model and whether with the classifier: the file's name where published, its name in Keras's
#: cache, and its MD5 sum, from `keras.applications.nasnet`.
FILES = {
    ("NASNetMobile", True): (
        "NASNet-mobile.h5",
        "nasnet_mobile.h5",
        "020fb642bf7360b370c678b08e0adf61",
    ),
    ("NASNetMobile", False): (
        "NASNet-mobile-no-top.h5",
        "nasnet_mobile_no_top.h5",
        "1ed92395b5b598bdda52abe5c0dbfd63",
    ),
    ("NASNetLarge", True): (
        "NASNet-large.h5",
        "nasnet_large.h5",
        "11577c9a518f0070763c2b964a382f17",
    ),
    ("NASNetLarge", False): (
        "NASNet-large-no-top.h5",
        "nasnet_large_no_top.h5",
        "d81d89dc07e6e56530c4e77faddd61b5",
    ),
}

# What a local disk answers when it cannot take a file.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def published_model(model: keras.Model) -> str:
    """Return which of the published models a model is: "NASNetMobile" or "NASNetLarge".

    Raises:
        ValueError: If it is neither.
    """
    normal = [cell for cell, place in places_of(model).items() if place.kind == "normal"]
    if all(cell.cell == NASNET_A.normal for cell in normal):
        for name, cells, filters in (("NASNetMobile", 12, 44), ("NASNetLarge", 18, 168)):
            if len(normal) == cells and normal[0].filters == filters:
                return name
    raise ValueError(
        "Expected NASNetMobile or NASNetLarge with weights='imagenet': of other models none were "
        f"ever published. Received: model {model.name!r}"
    )


def fetch_imagenet(model: keras.Model) -> Path:
    """Return the path of the published weights for a model; fetch them if they are not in the cache.

    The file with the classifier is used for a model that has one for ImageNet's 1000 classes. The
    cache is ``models`` in the folder that the environment variable ``KERAS_HOME`` names, or else in
    ``~/.keras``. A file gets its name there only when it is complete and its checksum right.

    Raises:
        ValueError: If weights of the model were never published.
        OSError: If the file cannot be fetched or stored; no part of it remains.
    """
    top = any(layer.name == "predictions" and layer.units == 1000 for layer in model.layers)
    published, cached, md5 = FILES[published_model(model), top]
    url = BASE_URL + published
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    target = cache / cached
    if target.exists() and _md5(target) == md5:
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
            path = keras.utils.get_file(
                cached, url, file_hash=md5, hash_algorithm="md5", cache_dir=folder, cache_subdir=""
            )
            os.replace(path, target)
    except Exception as error:
        raise OSError(_explain(error, url, md5, cache)) from None
    return target


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _explain(error: Exception, url: str, md5: str, cache: Path) -> str:
    """Explain in a sentence what `keras.utils.get_file` raised."""
    if isinstance(error, ValueError):
        return f"Expected a file of MD5 sum {md5} at {url}. Received: another one; it was not kept"
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"Expected room for {url} in {cache}. Received: {error.strerror}"
    # Keras wraps errors of urllib in a bare Exception.
    cause = error.__context__ or error
    reason = getattr(cause, "reason", None) or cause
    return f"Expected to fetch {url}. Received: {getattr(reason, 'strerror', None) or reason}"
