"""Keeping start-up notes of native libraries off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends what native code writes to standard error to nowhere while the block runs.

    Libraries log before they can be told not to, and past `sys.stderr`. Exceptions are raised as
    ever, and are shown when the block has ended.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def start_backend() -> None:
    """Starts Keras's backend, which logs while it looks for devices."""
    import keras

    with quiet_stderr():
        keras.ops.zeros(())
