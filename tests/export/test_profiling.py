"""Profiles of files: every operator is there once, with the multiply-adds that it does."""

import json

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from documented import check_figures
from settled import images, network

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.cli import main
from nasnet_zoo.export import export, litert, onnx
from nasnet_zoo.export.benchmark import benchmark
from nasnet_zoo.export.graph import InferenceGraph, Op

pytestmark = pytest.mark.tensorflow

WITHOUT_DELEGATE = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
#: Multiply-adds of the convolutions of `plain` on images of 8 x 8, by kind. Their channels
#: are multiples of 16, to which ONNX Runtime fills them.
ADDS = {"3x3": 8 * 8 * 9 * 3 * 32, "depthwise 5x5": 4 * 4 * 25 * 32, "1x1": 4 * 4 * 32 * 48}


def plain():
    """A graph of one operation of each kind that has multiply-adds."""

    def weights(*shape):
        return {
            "kernel": np.random.default_rng(0).normal(size=shape).astype(np.float32),
            "bias": np.ones(shape[-1], np.float32),
        }

    ops = (
        Op("conv", "a", ("image",), **weights(3, 3, 3, 32), pads=(1, 1, 1, 1)),
        Op("depthwise", "b", ("a",), **weights(5, 5, 32), stride=(2, 2), pads=(1, 2, 1, 2)),
        Op("conv", "c", ("b",), **weights(1, 1, 32, 48)),
        Op("mean", "d", ("c",)),
        Op("dense", "e", ("d",), **weights(48, 7)),
    )
    return InferenceGraph("image", (8, 8, 3), ops, ("e",))


def profile(path, rounds):
    (report,) = benchmark([path], [1], rounds, profile=True)
    return report.profiles[0]


def adds(made):
    return {kind.kind: kind.multiply_adds for kind in made.by_kind() if kind.multiply_adds}


def test_multiply_adds_of_each_kind(tmp_path):
    litert.write(plain(), tmp_path / "a.tflite", ("output",), {})
    onnx.write(plain(), tmp_path / "a.onnx", ("output",), {})
    assert adds(profile(tmp_path / "a.tflite", rounds=1)) == {
        "CONV_2D 3x3": ADDS["3x3"],
        "DEPTHWISE_CONV_2D 5x5": ADDS["depthwise 5x5"],
        "CONV_2D 1x1": ADDS["1x1"],
        "FULLY_CONNECTED": 48 * 7,
    }
    made = profile(tmp_path / "a.onnx", rounds=1)
    expected = {f"Conv {kind}": count for kind, count in ADDS.items()}
    assert adds(made) == expected | {"Gemm": 48 * 7}
    assert made.sgemm > 1e9


@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_every_operator_of_a_litert_file_is_cut_out(quantization, tmp_path):
    model, path = network(NASNET_A, (16, 16)), tmp_path / "a.tflite"
    needs_images = quantization in ("int8", "int16x8")
    batch = images(8, (16, 16)) if needs_images else None
    export(model, path, quantization=quantization, representative=batch, min_agreement=0.0)
    interpreter = Interpreter(str(path), experimental_op_resolver_type=WITHOUT_DELEGATE)
    interpreter.allocate_tensors()
    names = {t["index"]: t["name"] for t in interpreter.get_tensor_details()}
    operators = [
        (op["op_name"], names[op["outputs"][0]])
        for op in interpreter._get_ops_details()
        # Weights in float16 are widened when the file is loaded.
        if quantization != "float16" or op["op_name"] != "DEQUANTIZE"
    ]
    made = profile(path, rounds=2)
    assert [(o.kind.split()[0], o.name) for o in made.operators] == operators
    assert all(o.seconds >= 0 for o in made.operators)
    assert sum(o.seconds for o in made.operators) > 0


def test_the_command_prints_them_and_refuses_what_has_no_operators(tmp_path, capfd):
    onnx.write(plain(), tmp_path / "a.onnx", ("output",), {})
    out = tmp_path / "report.json"
    command = ["benchmark", "--rounds", "1", "--threads", "1", "--profile", "--json", str(out)]
    assert main([*command, str(tmp_path / "a.onnx")]) == 0
    assert "Conv depthwise 5x5" in capfd.readouterr().out
    check_figures("benchmark", json.loads(out.read_text()))
    (report,) = json.loads(out.read_text())
    (profiled,) = report["profiles"]
    assert {o["kind"]: o["multiply_adds"] for o in profiled["operators"]}["Conv 1x1"] == ADDS["1x1"]
    export(network(NASNET_A, (16, 16)), tmp_path / "saved")
    out.unlink()
    assert main([*command, str(tmp_path / "saved")]) == 1
    assert "Expected a .tflite or .onnx file to profile" in capfd.readouterr().err
    assert not out.exists()
