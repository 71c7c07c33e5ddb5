import signal
import sys

import pytest

from nasnet_zoo.cells import COMBINATIONS, OPERATIONS


@pytest.fixture
def registry():
    """What a test registers, and the modules that it imports, are gone after it."""
    before = [(known, dict(known)) for known in (OPERATIONS, COMBINATIONS)]
    modules, path = set(sys.modules), list(sys.path)
    yield
    for known, kept in before:
        known.clear()
        known.update(kept)
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def custom_operations(registry):
    """Registers the operations of `custom_operations`."""
    import custom_operations

    custom_operations.register()


@pytest.fixture
def ctrl_c_counts():
    """Ctrl-C counts here and in children, though a shell has what runs in its background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
