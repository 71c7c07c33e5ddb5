"""Hide start-up messages of native libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what is written to standard error inside the block, also by native code.

    Native libraries log before their log level can be set, and not through `sys.stderr`. Exceptions
    are raised as usual.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def start_backend() -> None:
    """Start Keras's backend without its messages about devices."""
    import keras

    with quiet_stderr():
        # Of the first integers that oneDNN transposes it says that they need AVX-512.
        keras.ops.transpose(keras.ops.zeros((1, 1), "int32"))
