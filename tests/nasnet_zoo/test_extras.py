"""Each extra by itself has all that its commands import, and a missing one is named in one line."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import venv

import pytest
from distributions import ROOT, build_wheel
from packaging.requirements import Requirement

from nasnet_zoo.cli import main
from nasnet_zoo.extras import import_extra, requirements


def extras():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {
        extra: lines.strip().splitlines() for extra, lines in setup["options.extras_require"].items()
    }


def test_a_missing_package_is_named_with_a_command_that_installs_it():
    with pytest.raises(ImportError) as caught:
        import_extra("there_is_no_such_module", "export")
    message = str(caught.value)
    assert message.startswith("Expected 'there_is_no_such_module', of the extra 'export' of nasnet-zoo")
    assert "\n" not in message
    # The package may be on no index: what pip is given are the libraries.
    command = re.search(r"pip install (.*?)\. Received: ", message)[1]
    assert "nasnet-zoo" not in command
    wanted = [Requirement(part) for part in re.findall("'([^']+)'", command)]
    assert wanted == [Requirement(line) for line in extras()["export"]]


def test_an_extra_of_extras_names_their_libraries():
    names = {Requirement(line).name for line in requirements("demo")}
    assert {"onnx", "ai-edge-litert", "pillow", "scikit-learn"} <= names
    assert "nasnet-zoo" not in names


def without(monkeypatch, *modules):
    """Makes modules as if they were not installed."""
    for missing in modules:
        for module in [name for name in sys.modules if name.split(".")[0] == missing]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, missing, None)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("sklearn", "demo", "search --data digits --out OUT"),
        ("PIL", "train", "search --data IMAGES --image-size 8 --out OUT"),
        ("tensorflow_datasets", "train", "train digits --data cifar10 --out OUT"),
        ("tensorflow_datasets", "train", "search --data cifar10 --out OUT"),
        ("safetensors", "timm", "convert model.safetensors --model nasnet_mobile --out o.weights.h5"),
        ("onnx", "export", "demo --out OUT"),
        ("ray", "ray", "search --data digits --executor ray --out OUT"),
    ],
)
def test_a_command_without_its_extra_says_so_in_one_line(
    monkeypatch, tmp_path, capsys, missing, extra, arguments
):
    monkeypatch.chdir(tmp_path)
    for kind in ("a", "b"):
        (tmp_path / "IMAGES" / kind).mkdir(parents=True)
        for name in ("1.png", "2.png", "3.png"):
            (tmp_path / "IMAGES" / kind / name).write_bytes(b"")
    (tmp_path / "model.safetensors").write_bytes(b"")
    without(monkeypatch, missing)
    assert main(arguments.split()) == 1
    message = capsys.readouterr().err
    assert re.fullmatch(
        f"nasnet-zoo: Expected '{missing}.*', of the extra '{extra}' of nasnet-zoo: pip install .*\n",
        message,
    )


# === Alone in an environment ===

_TINY = """
import numpy as np
from nasnet_zoo import NASNET_A, NASNet
model = NASNet(NASNET_A, cells=1, filters=4, stem_filters=4, image_size=32, classes=3)
"""

_DIGITS = "--run.epochs 1 --run.batch-size 8 --model.cells 1 --model.filters 4 --model.stem-filters 4"

#: What each extra is for, as Python files and commands of nasnet-zoo in an empty folder.
USES = {
    "": [
        "nasnet-zoo --version",
        "nasnet-zoo models --json models.json",
        "nasnet-zoo completion bash",
        "import json, nasnet_zoo\n"
        "assert [row['model'] for row in json.load(open('models.json'))] == nasnet_zoo.list_models()\n"
        "assert 'site-packages' in nasnet_zoo.__file__",
        _TINY + "model.save_weights('model.weights.h5')",
        "import numpy as np; from nasnet_zoo import decode_predictions\n"
        "assert decode_predictions(np.eye(1, 1000), top=1)[0][0][:2] == ('n01440764', 'tench')",
    ],
    "export": [
        _TINY + "model.save('model.keras')",
        *(
            f"nasnet-zoo export model.keras --out {out} --converter {converter}"
            for converter in ("native", "official")
            for out in (f"{converter}.tflite", f"{converter}.onnx", f"{converter}_saved")
        ),
        "nasnet-zoo benchmark native.tflite native.onnx native_saved --threads 1 --rounds 1 "
        "--picture bars.svg",
    ],
    "demo": [
        "nasnet-zoo search --data digits --out out --children 1 --processes 1 --images 100 "
        "--space.blocks 1 --space.cells 1 --budget.steps 1 --budget.evaluations 1 --budget.filters 4",
        """
from pathlib import Path
from PIL import Image
from nasnet_zoo.data import open_dataset
for kind in ("x", "y"):
    Path("images", kind).mkdir(parents=True)
    for name in ("1.png", "2.png", "3.png"):
        Image.new("RGB", (32, 32), "red" if kind == "x" else "blue").save(Path("images", kind, name))
assert open_dataset("images").class_names == ("x", "y")
""",
        _TINY.replace("stem_filters", "stem='cifar', stem_filters") + "model.save('model.keras')",
        "nasnet-zoo export model.keras --out model.tflite --quantization int8 --images images",
    ],
    "train": [
        # By name, from TFDS's own code: it asks for files that have to be fetched by hand.
        """
from nasnet_zoo.data import open_dataset
try:
    open_dataset("imagenet2012")
except ValueError as error:
    assert "imagenet2012" in str(error), error
else:
    raise AssertionError
""",
        # In the place and format of the real one, from where it is read without that code.
        """
import numpy as np
import tensorflow_datasets as tfds
class Cifar10(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("3.0.2")
    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(16), "test": self._generate_examples(8)}
    def _generate_examples(self, count):
        for k in range(count):
            yield k, {"id": str(k), "image": np.full((32, 32, 3), k, np.uint8), "label": k % 10}
Cifar10().download_and_prepare()
""",
        f"nasnet-zoo train digits --data cifar10 --out out --tensorboard {_DIGITS}",
        "nasnet-zoo evaluate out/model.keras --data cifar10 --picture confusion.svg",
    ],
    "inheritance": [
        """
import numpy as np
from nasnet_zoo.search import (
    Evaluator, Journal, NASNetSpace, RegularizedEvolution, Result, Serial, run_search
)
class Heir(Evaluator):
    inherits = True
    def evaluate(self, trial):
        weights = trial.weights or {"generation": np.zeros(())}
        return Result(0.5, weights={"generation": weights["generation"] + 1})
space = NASNetSpace()
with Serial(Heir()) as executor, Journal("journal.sqlite", {}) as journal:
    policy = RegularizedEvolution(space, population=4, sample=2)
    records = run_search(policy, space, executor, journal, 40)
assert {record.state for record in records} == {"finished"}
""",
    ],
    "timm": [
        _TINY + "from nasnet_zoo.weights import load_weights\n"
        "from safetensors.numpy import save_file\n"
        "save_file({'a': np.zeros(3, 'float32')}, 'model.safetensors')\n"
        "try:\n"
        "    load_weights(model, 'model.safetensors')\n"
        "except ValueError as error:\n"
        "    assert 'missing weights' in str(error)\n"
        "else:\n"
        "    raise AssertionError",
    ],
    "detection": [
        """
import json
from pathlib import Path
import numpy as np
from PIL import Image
from nasnet_zoo.detection.coco import CocoImages
from nasnet_zoo.detection.evaluation import evaluate
from nasnet_zoo.detection.prediction import draw
Path("images").mkdir()
Image.new("RGB", (64, 64)).save("images/1.png")
box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0}
Path("a.json").write_text(json.dumps({
    "images": [{"id": 1, "file_name": "1.png", "height": 64, "width": 64}],
    "categories": [{"id": 1, "name": "box"}],
    "annotations": [box],
}))
found = {"image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "score": 1.0}
assert evaluate(CocoImages("a.json", "images"), [found])["AP"] > 0.99
one = {"boxes": np.float32([[8, 8, 40, 40]]), "scores": np.ones(1), "classes": np.zeros(1, int)}
draw(np.zeros((64, 64, 3), np.uint8), one, ("box",), Path("drawn.png"))
""",
    ],
    "hub": [
        _TINY + "import keras_hub\n"
        "from nasnet_zoo.hub import NASNetBackbone, RetinaNet\n"
        "pyramid = keras_hub.models.RetinaNetBackbone(NASNetBackbone(model), 3, 6, use_p5=False)\n"
        "RetinaNet(pyramid, num_classes=2).save('detector.keras')",
    ],
    "ray": [
        """
from nasnet_zoo.search import Journal, RandomSearch, Ray, run_search
from nasnet_zoo.search.nasnet.tabular import TabularBenchmark
table = TabularBenchmark.load()
with Ray(table) as executor, Journal("journal.sqlite", {}) as journal:
    records = run_search(RandomSearch(table.space), table.space, executor, journal, 4)
assert {record.state for record in records} == {"finished"}
""",
    ],
    "optuna": [
        """
from nasnet_zoo.search import Journal, OptunaPolicy, Serial, run_search
from nasnet_zoo.search.nasnet.tabular import TabularBenchmark
table = TabularBenchmark.load()
with Serial(table) as executor, Journal("journal.sqlite", {}) as journal:
    records = run_search(OptunaPolicy(table.space), table.space, executor, journal, 4)
assert {record.state for record in records} == {"finished"}
""",
    ],
    "jax": [
        "import os; os.environ['KERAS_BACKEND'] = 'jax'\n"
        + _TINY
        + "assert model(np.zeros((1, 32, 32, 3), 'float32')).shape == (1, 3)",
    ],
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_every_extra_is_used():
    # PyTorch takes gigabytes: `make test-all` runs its tests from the extra. `make docs` installs
    # the extra "docs".
    assert set(USES) - {""} == set(extras()) - {"dev", "docs", "runtimes", "torch"}


@pytest.mark.slow
@pytest.mark.tensorflow  # each use says its backend itself: once is enough
@pytest.mark.parametrize("extra", USES, ids=lambda extra: extra or "none")
def test_an_extra_by_itself_has_all_that_it_needs(extra, wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python, folder = environment / "bin" / "python", tmp_path / "folder"
    folder.mkdir()
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KERAS", "TFDS"))},
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }

    def run(*command):
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    try:
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]" if extra else wheel)
        for use in USES[extra]:
            if use.startswith("nasnet-zoo "):
                run(environment / "bin" / "nasnet-zoo", *use.split()[1:])
            else:
                (folder / "use.py").write_text(use)
                run(python, "use.py")
    finally:
        shutil.rmtree(environment)
