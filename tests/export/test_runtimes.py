"""Files in runtimes beside LiteRT and ONNX Runtime, each in a process of its own."""

import subprocess

import keras
import numpy as np
import pytest
from environments import environment, output_of
from settled import HYPERPARAMETERS, images, network, settled

from nasnet_zoo.cells import NASNET_A, TREECELL_A, LayerGenotype, LayerwiseGenotype
from nasnet_zoo.export import litert, load_runtime, onnx
from nasnet_zoo.export.from_keras import inference_graph
from nasnet_zoo.export.rewrites import simplify
from nasnet_zoo.export.settings import ExportSettings
from nasnet_zoo.extras import requirements
from nasnet_zoo.models import NAS, TreeNet

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

SIZE = (24, 22)
BATCH = images(32, SIZE)
# Kernels that are not square, and skip connections, as the network of NAS has them.
LAYERS = LayerwiseGenotype(
    "layers",
    (
        LayerGenotype((3, 3), 8),
        LayerGenotype((3, 7), 6, (1,)),
        LayerGenotype((7, 5), 8, (1, 2)),
        LayerGenotype((7, 1), 8, (2,)),
    ),
)
_SMALL = {"classes": 7, "input_shape": (*SIZE, 3), "hyperparameters": HYPERPARAMETERS}
NETWORKS = {
    "nasnet": lambda: network(NASNET_A, SIZE),
    "tree": lambda: settled(TreeNet(TREECELL_A, "densenet", 1, 8, **_SMALL), SIZE),
    "nas": lambda: settled(NAS(LAYERS, **_SMALL), SIZE),
}
FILES = (
    *("float32.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite"),
    *("float32.onnx", "float16.onnx", "int8.onnx"),
)

# Each prints nothing that matters, takes a file and images, and writes the outputs.
_OPENVINO = """
import sys
import numpy as np
import openvino

path, images, out = sys.argv[1:]
# By default it computes in bfloat16 where the processor does.
model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(out, model(np.load(images))[0])
"""
_MNN = """
import sys
import _tools  # MNN.tools does the same, but installs packages when it is imported
import MNN
import numpy as np

path, images, out = sys.argv[1:]
images, kind = np.load(images), "TFLITE" if path.endswith("tflite") else "ONNX"
_tools.mnnconvert(["", "-f", kind, "--modelFile", path, "--MNNModel", out + ".mnn"])
network = MNN.nn.load_module_from_file(out + ".mnn", ["image"], ["output"])
# The layout is that of the file's format, a name: images are channels-last in both.
layout = MNN.expr.NHWC if kind == "TFLITE" else MNN.expr.NCHW
(found,) = network.forward([MNN.expr.const(images, list(images.shape), layout)])
np.save(out, np.array(found.read()).reshape(len(images), -1))
"""
_NCNN = """
import importlib.util, subprocess, sys
import ncnn
import numpy as np

path, images, out = sys.argv[1:]
images = np.load(images)
# The package imports torch, which its program does not need.
program = importlib.util.find_spec("pnnx").submodule_search_locations[0] + "/pnnx"
shape = ",".join(map(str, images[:1].shape))
files = {"ncnnparam": out + ".param", "ncnnbin": out + ".bin"}
files |= {name: out + "." + name for name in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")}
files = [f"{name}={file}" for name, file in files.items()]
subprocess.run([program, path, f"inputshape=[{shape}]", "fp16=0", *files])
network = ncnn.Net()
network.opt.num_threads = 1
for name in ("fp16_storage", "fp16_packed", "fp16_arithmetic"):
    setattr(network.opt, "use_" + name, False)
assert network.load_param(out + ".param") == 0, "ncnn cannot load it"
assert network.load_model(out + ".bin") == 0
found = []
for image in images:
    run = network.create_extractor()
    run.input("in0", ncnn.Mat(image))
    found.append(np.array(run.extract("out0")[1]))
np.save(out, found)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with the extra "runtimes", and pnnx without torch."""
    python = environment(tmp_path_factory.mktemp("venv"), *requirements("runtimes"))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "pnnx"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("pip cannot install pnnx")
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of every network, as they are written, and what Keras computes."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "images.npy", BATCH)
    for name, build in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = build()
        np.save(folder / f"{name}.npy", model(BATCH))
        graph = simplify(inference_graph(model))
        for file in FILES:
            kind, suffix = file.split(".")
            writer = {"tflite": litert, "onnx": onnx}[suffix]
            settings = ExportSettings(quantization=kind)
            writer.write(graph, folder / f"{name}.{file}", ("output",), {}, settings, BATCH)
    return folder


def _cases(script, runs, fails, networks=tuple(NETWORKS)):
    for name in networks:
        for file in (*runs, *fails):
            marks = [pytest.mark.xfail(strict=True, reason=fails[file])] if file in fails else []
            yield pytest.param(name, script, file, id=f"{name}-{script[0]}-{file}", marks=marks)


_QDQ = {"int8.onnx": "pnnx leaves QuantizeLinear and DequantizeLinear as they are"}
_POOLS = "ncnn has no average pool that is padded on one side alone"
CASES = [
    *_cases(("openvino", _OPENVINO), FILES, {}),
    *_cases(
        ("mnn", _MNN),
        ("float32.tflite", "float32.onnx", "float16.onnx"),
        {
            "float16.tflite": "the converter crashes on weights that are dequantized halves",
            "dynamic.tflite": "the converter crashes on int8 weights of float operators",
            "int8.tflite": "it takes a change of scale for nothing, and so a ReLU in integers",
            "int8.onnx": "the converter fails on QuantizeLinear and DequantizeLinear",
        },
    ),
    *_cases(("ncnn", _NCNN), ("float32.onnx", "float16.onnx"), _QDQ, ("nas",)),
    *_cases(
        ("ncnn", _NCNN),
        (),
        {"float32.onnx": _POOLS, "float16.onnx": _POOLS, **_QDQ},
        ("nasnet", "tree"),
    ),
]


@pytest.mark.parametrize(("name", "runtime", "file"), CASES)
def test_a_runtime_computes_what_ours_computes(python, folder, tmp_path, name, runtime, file):
    """Within 1e-4 in floats. In integers it is as near to Keras as our runtime is, up to 2 decibels.

    There roundings differ, and multiply in a network: two runtimes that are both right are as far from
    each other as from Keras.
    """
    path = folder / f"{name}.{file}"
    out = tmp_path / "out.npy"
    output_of(python, "-c", runtime[1], path, folder / "images.npy", out, cwd=tmp_path)
    found, own = np.load(out), load_runtime(path).predict(BATCH)
    if file.startswith("float"):
        np.testing.assert_allclose(found, own, atol=1e-4)
    else:
        expected = np.load(folder / f"{name}.npy")
        errors = [np.sqrt(np.mean((output - expected) ** 2)) for output in (found, own)]
        assert errors[0] < 1.25 * errors[1] + 1e-4
