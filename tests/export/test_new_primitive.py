"""A primitive and an operation of a user's module go all the way: from training to exported files."""

import dataclasses
import math
import sys

import keras
import numpy as np
import pytest

from nasnet_zoo import NASNet, architecture_cost
from nasnet_zoo.cells import OPERATIONS, Block, CellGenotype, Genotype
from nasnet_zoo.cells.draw import cell_svg
from nasnet_zoo.cells.operations import import_operations
from nasnet_zoo.export import export
from nasnet_zoo.network import architecture_of
from nasnet_zoo.search import Budget, NASNetSpace, Processes, Trial
from nasnet_zoo.search.images.child import FastChild, Images

pytestmark = pytest.mark.tensorflow

MODULE = '''
from dataclasses import dataclass
from keras import ops
from nasnet_zoo.cells import register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.cells.primitives import Primitive, Weight

@dataclass(frozen=True)
class Rectify(Primitive):
    """max(x, 0) + slope * x, with a slope for each channel."""

    def weights(self, channels, filters):
        return (Weight("slope", (channels,), "scale"),)

    def mult_adds(self, shape, filters):
        return shape[0] * shape[1] * shape[2]

    def __call__(self, x, weights, training, hyper):
        return ops.relu(x) + weights[0] * x, ()

    def lower(self, build, x, weights, hyper):
        line = build.add("scale", x, kernel=weights[0], bias=0 * weights[0])
        return build.add("add", build.add("relu", x), line)

register_operation("rectify", lambda stride, channels, filters: (*conv(1, stride), Rectify()))
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "rectifiers.py"
    path.write_text(MODULE)
    import_operations(str(path))
    yield path
    del OPERATIONS["rectify"], sys.modules["rectifiers"]
    sys.path.remove(str(tmp_path))


def _network(operation):
    cell = CellGenotype((Block((0, 1), (operation, "sep_3x3")),))
    keras.utils.set_random_seed(0)
    genotype = Genotype(operation, cell, cell)
    return NASNet(genotype, 1, 6, "cifar", 6, input_shape=(12, 12, 3), classes=4)


def test_a_new_primitive_and_operation_in_25_lines(module, tmp_path):
    assert len(MODULE.replace("\n\n", "\n").strip().splitlines()) < 25
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (16, 12, 12, 3)).astype("float32"), rng.integers(0, 4, 16)

    model = _network("rectify")
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0)
    slopes = [w for w in model.trainable_weights if w.path.endswith("slope")]
    assert slopes
    assert all(np.any(np.asarray(slope) != 1) for slope in slopes)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))

    cost, without = (
        architecture_cost(dataclasses.replace(architecture_of(network), image_size=12), 4)
        for network in (model, _network("conv_1x1"))
    )
    assert cost.parameters - without.parameters == sum(math.prod(slope.shape) for slope in slopes)
    assert cost.mult_adds > without.mult_adds
    assert ">rectify<" in cell_svg(CellGenotype((Block((0, 1), ("rectify", "identity")),)), "new")

    space = NASNetSpace(1, ("rectify", "identity"), ("add",), cells=1)
    images = Images(x[:8], y[:8], x[8:], y[8:], 4)
    budget = Budget(filters=2, stem_filters=2, steps=2, batch_size=4, evaluations=1)
    evaluator, outcomes = FastChild(images, budget), []
    with Processes(evaluator, 2) as executor:
        for k in range(2):
            child = evaluator.prepare(space.genotype([0, 1, 0, k, 0]))
            executor.submit(Trial(k, child, seed=k))
        while len(outcomes) < 2:
            outcomes += executor.completed()
    assert [outcome.result.status for outcome in outcomes] == ["finished", "finished"]

    for name in ("model.tflite", "model.onnx", "saved"):
        result = export(loaded, tmp_path / name, images=x)
        assert result.difference < 1e-5
        assert result.values or name == "saved"
    int8 = export(loaded, tmp_path / "int8.tflite", quantization="int8", representative=x)
    assert int8.agreement >= 0.85


def test_a_primitive_that_does_not_lower_needs_the_official_converter(module, tmp_path, monkeypatch):
    monkeypatch.delattr(sys.modules["rectifiers"].Rectify, "lower")
    model = _network("rectify")
    with pytest.raises(ValueError, match="a method lower .converter='official' takes any.*Rectify"):
        export(model, tmp_path / "model.tflite")
    assert export(model, tmp_path / "model.tflite", converter="official").difference < 1e-4
