import ctypes
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
from hypothesis import HealthCheck, settings
from strategies import PROFILE

# Networks are built and traced in examples: those take seconds.
_SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same examples every time decide whether a change lands; others are looked for by make test-all.
settings.register_profile("fixed", derandomize=True, database=None, max_examples=200, **_SLOW)
settings.register_profile("random", max_examples=1000, print_blob=True, **_SLOW)
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(items):
    if keras.backend.backend() != "tensorflow":
        reason = f"needs the TensorFlow backend, not {keras.backend.backend()}"
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _memory():
    """Gives memory back that large models had, which the C library keeps: up to 14 GB of a process."""
    yield
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
