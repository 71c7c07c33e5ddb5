import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "zoo", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("zoo")


def pytest_collection_modifyitems(items):
    if keras.backend.backend() != "tensorflow":
        reason = f"needs the TensorFlow backend, not {keras.backend.backend()}"
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
