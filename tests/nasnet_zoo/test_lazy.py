"""The package loads no backend, and Keras finds the classes of the package."""

import subprocess
import sys

import keras
import pytest

import nasnet_zoo as zoo

BACKENDS = ("keras", "tensorflow", "jax", "torch")


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def imports_no_backend(code):
    out, _ = python(f"{code}\nimport sys\nprint([name for name in {BACKENDS} if name in sys.modules])")
    return out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "import nasnet_zoo",
        "from nasnet_zoo.cells import NASNET_A, OPERATIONS, Hyperparameters, cell_graph, graph_cost",
        "from nasnet_zoo.cells.draw import genotype_svg",
        "from nasnet_zoo.presets import PRESETS",
        "from nasnet_zoo.training import RECIPES",
        "import nasnet_zoo.detection.recipes",
        "from nasnet_zoo.search.nasnet.settings import Budget",
        "from nasnet_zoo.export import ExportSettings",
    ],
)
def test_an_import_loads_no_backend(code):
    assert imports_no_backend(code)


def test_the_first_use_of_a_builder_loads_keras():
    assert not imports_no_backend("import nasnet_zoo\nnasnet_zoo.NASNetMobile")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    zoo.NASNet(zoo.NASNET_A, 1, 4, "cifar", 4, classes=2).save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    [
        "import nasnet_zoo, keras",
        "import keras, nasnet_zoo",
        "from nasnet_zoo.cells import drop_path; import keras",
    ],
)
def test_a_model_is_loaded_whichever_is_imported_first(saved, imports):
    load = "import sys\nprint(keras.models.load_model(sys.argv[1]).count_params())"
    out, _ = python(f"{imports}\n{load}", str(saved))
    assert int(out) == keras.models.load_model(saved).count_params()


def test_a_detector_is_found_after_the_import_of_its_package():
    find = "print(keras.saving.get_registered_object('nasnet_zoo>FasterRCNN').__name__)"
    out, _ = python(f"import nasnet_zoo.detection, keras\n{find}")
    assert out == "FasterRCNN\n"


def test_start_up_notes_are_hidden_and_what_follows_is_not():
    _, errors = python("import nasnet_zoo, keras, os\nos.write(2, b'told')")
    assert errors == "told"


def test_an_unknown_attribute_is_refused_by_its_name():
    with pytest.raises(AttributeError, match="NASNetTiny"):
        zoo.NASNetTiny  # noqa: B018


def test_every_public_name_is_there():
    assert {"NASNetMobile", "NASNET_A", "load_weights"} <= set(dir(zoo))
    for package in (zoo, zoo.cells):
        assert all(hasattr(package, name) for name in package.__all__)
