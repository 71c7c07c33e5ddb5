"""At which other sizes a file of one image size is right, once the runtime lets it take them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from settled import HYPERPARAMETERS, images, settled

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.export import export
from nasnet_zoo.models import NASNet

pytestmark = pytest.mark.tensorflow

SIZE, STRIDE = 32, 4


@pytest.fixture(scope="module")
def model():
    arguments = {"classes": 7, "input_shape": (None, None, 3), "hyperparameters": HYPERPARAMETERS}
    return settled(NASNet(NASNET_A, 1, 5, "cifar", 6, **arguments), (SIZE, SIZE))


def run_litert(path, batch):
    interpreter = Interpreter(str(path))
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(image["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(image["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(output["index"])


def run_onnx(path, batch):
    model = onnx.load(path)
    for axis, name in ((1, "height"), (2, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": batch})[0]


@pytest.mark.parametrize(("suffix", "run"), [(".tflite", run_litert), (".onnx", run_onnx)])
def test_sizes_that_differ_by_multiples_of_the_stride(model, tmp_path, suffix, run):
    path = tmp_path / f"model{suffix}"
    export(model, path, image_size=(SIZE, SIZE))
    for size in ((SIZE, SIZE), (SIZE + STRIDE, SIZE), (SIZE - STRIDE, SIZE + 3 * STRIDE)):
        batch = images(2, size)
        np.testing.assert_allclose(run(path, batch), model(batch, training=False), atol=1e-5)
    with pytest.raises(Exception, match=r"broadcast|reshape"):
        run(path, images(2, (SIZE + 1, SIZE)))
