import sys

import pytest


def test_a_missing_keras_hub_names_the_extra(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("nasnet_zoo.hub")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(
        ImportError, match="'keras_hub', of the extra 'hub' of nasnet-zoo: pip install 'keras-hub"
    ):
        import nasnet_zoo.hub  # noqa: F401
