"""Files where nothing of ours is installed: runtimes alone, viewers, a web page."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from chromium import page, served
from environments import environment, output_of
from PIL import Image
from settled import network

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.export import export, load_runtime

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = (16, 18)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
LITERT = ("float32", "float16", "dynamic", "int8", "int16x8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every format of a small NASNet-A, and an image file."""
    folder = tmp_path_factory.mktemp("files")
    model = network(NASNET_A, SIZE)
    arguments = {"preprocess": True, "representative": PIXELS, "class_names": list("abcdefg")}
    for kind in LITERT:
        export(model, folder / f"{kind}.tflite", quantization=kind, **arguments)
    for kind in ("float32", "int8"):
        export(model, folder / f"{kind}.onnx", quantization=kind, **arguments)
    export(model, folder / "saved", **arguments)
    Image.fromarray(PIXELS[0]).save(folder / "photo.png")
    return folder


@pytest.mark.parametrize(
    ("package", "script", "kinds"),
    [
        ("ai-edge-litert", "classify_litert.py", LITERT),
        ("onnxruntime", "classify_onnx.py", LITERT[::3]),
    ],
)
def test_the_runtime_alone_runs_the_examples(folder, tmp_path, package, script, kinds):
    python = environment(tmp_path / "venv", package, "numpy", "pillow")
    installed = output_of(python, "-m", "pip", "list", cwd=folder).lower()
    assert not any(name in installed for name in ("tensorflow", "keras", "nasnet"))
    suffix = ".onnx" if "onnx" in script else ".tflite"
    for kind in kinds:
        printed = output_of(python, EXAMPLES / script, kind + suffix, "photo.png", cwd=folder)
        expected = load_runtime(folder / f"{kind}{suffix}").predict(PIXELS[:1])[0]
        named = [line.split()[1] for line in printed.splitlines()]
        assert named == ["abcdefg"[k] for k in np.argsort(-expected)[:5]]


# === A web page ===


def test_a_web_page_computes_what_onnxruntime_computes(folder, tmp_path):
    """Within 1e-5 for float32 and 5e-2 for int8, whose kernels round otherwise."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    site = shutil.copytree(EXAMPLES / "web", tmp_path / "site", ignore=lambda *_: ["node_modules"])
    if subprocess.run(["npm", "install", "--no-audit"], cwd=site, capture_output=True).returncode:
        pytest.skip("npm cannot install onnxruntime-web")
    shutil.copy(folder / "photo.png", site)
    (site / "classes.txt").write_text("\n".join("abcdefg"))
    for kind, tolerance in (("float32", 1e-5), ("int8", 5e-2)):
        shutil.copy(folder / f"{kind}.onnx", site / "model.onnx")
        address = "/?image=photo.png"
        with served(site) as root, page(root + address, tmp_path / f"profile_{kind}") as wait_for:
            found = wait_for("(/error|%/.exec(result.textContent) || false) && result.textContent")
        shown = {line.split()[2]: float(line.split()[0]) / 100 for line in found.splitlines()}
        expected = load_runtime(folder / f"{kind}.onnx").predict(PIXELS[:1])[0]
        assert next(iter(shown)) == "abcdefg"[expected.argmax()]
        for name, value in shown.items():
            assert value == pytest.approx(expected["abcdefg".index(name)], abs=tolerance)


# === Viewers ===

_NETRON = """
import netron, sys
host, port = netron.start(sys.argv[1], browse=False)
print(f"http://{host}:{port}", flush=True)
netron.wait()
"""
# It asks to be let send reports before it opens a file; what else it says is an error, or patience.
_OPENED = """
message = document.getElementById("message-text").textContent,
message.includes("cookies") && document.getElementById("message-button").click(),
document.body.className == "default" ? document.querySelectorAll("#nodes > g").length
    : /cookies|long time/.test(message) ? "" : message
"""


def test_netron_draws_every_node(folder, tmp_path):
    import onnx
    from ai_edge_litert.schema_py_generated import ModelT

    python = environment(tmp_path / "venv", "netron")

    def drawn(name):
        server = subprocess.Popen(
            [python, "-c", _NETRON, name], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            lines = iter(server.stdout.readline, "")
            address = next(line.strip() for line in lines if line.startswith("http"))
            with page(address, tmp_path / f"profile_{name}") as wait_for:
                return wait_for(_OPENED)
        finally:
            server.kill()
            server.wait()

    graph = onnx.load(folder / "float32.onnx").graph
    assert drawn("float32.onnx") == len(graph.node) + len(graph.input) + len(graph.output)
    for name in ("float32.tflite", "int8.tflite"):
        lite = ModelT.InitFromPackedBuf((folder / name).read_bytes())
        assert drawn(name) >= len(lite.subgraphs[0].operators) + 2
    assert drawn("int8.onnx") > 200
    (folder / "broken.tflite").write_bytes((folder / "int8.tflite").read_bytes()[:5000])
    assert isinstance(drawn("broken.tflite"), str)


_EXPLORER = """
import json, sys
from collections import Counter
from model_explorer.builtin_tf_direct_adapter import BuiltinTfDirectAdapter
from model_explorer.builtin_tflite_flatbuffer_adapter import BuiltinTfliteFlatbufferAdapter

found = {}
for name in sys.argv[1:]:
    adapter = BuiltinTfliteFlatbufferAdapter if name.endswith("tflite") else BuiltinTfDirectAdapter
    (collection,) = adapter().convert(name, {})["graphCollections"]
    graphs = json.loads(json.dumps(collection, default=vars))["graphs"]
    found[name] = Counter(node["label"] for graph in graphs for node in graph["nodes"])
print(json.dumps(found))
"""


def test_model_explorer_finds_every_operator(folder, tmp_path):
    python = environment(tmp_path / "venv", "ai-edge-model-explorer")
    names = [f"{kind}.tflite" for kind in LITERT]
    found = json.loads(output_of(python, "-c", _EXPLORER, *names, "saved", cwd=folder).splitlines()[-1])
    from nasnet_zoo.export.benchmark import benchmark

    for report in benchmark([folder / name for name in names], [1], 1):
        labels = Counter(
            {label.replace("_", "").lower(): count for label, count in found[report.path.name].items()}
        )
        for operator, count in report.operators.items():
            assert labels[operator.replace("_", "").lower()] == count, (report.path.name, found)
    assert sum(found["saved"].values()) > 100
