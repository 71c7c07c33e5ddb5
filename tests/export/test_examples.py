"""The examples, run as their users do, with nothing of ours in reach of the runtime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from settled import network

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.export import export

pytestmark = pytest.mark.tensorflow
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def model():
    return network(NASNET_A, (16, 18))


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 18, 3), np.uint8)
BYTES = {"quantization": "int8", "representative": PIXELS[None], "byte_outputs": True}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("model.tflite", {}),
        ("model.tflite", {"preprocess": True}),
        ("model.tflite", {"preprocess": True, **BYTES}),
        ("model.onnx", {}),
        ("model.onnx", {"preprocess": True}),
    ],
)
def test_an_image_file_is_classified(model, tmp_path, name, arguments):
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    export(model, tmp_path / name, class_names=list("abcdefg"), **arguments)
    script = "classify_litert.py" if name.endswith(".tflite") else "classify_onnx.py"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), name, "photo.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    best = int(np.asarray(model(PIXELS[None] / np.float32(127.5) - 1)).argmax())
    assert done.stdout.split()[1] == "abcdefg"[best]
    assert len(done.stdout.splitlines()) == 5
