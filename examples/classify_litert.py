"""Names what is in an image by a LiteRT file; needs ai-edge-litert, NumPy and Pillow alone.

python examples/classify_litert.py model.tflite photo.jpg
"""

import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import Model
from PIL import Image


def main(model: str, photo: str) -> None:
    interpreter = Interpreter(model)
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    _, height, width, channels = image["shape"]
    mode = "RGB" if channels == 3 else "L"
    pixels = np.asarray(Image.open(photo).convert(mode).resize((width, height)))
    pixels = pixels.reshape(1, height, width, channels)
    if image["dtype"] == np.float32:  # exported without --preprocess
        pixels = (pixels / 127.5 - 1).astype(np.float32)
    interpreter.allocate_tensors()
    interpreter.set_tensor(image["index"], pixels)
    interpreter.invoke()
    probabilities = interpreter.get_tensor(output["index"])[0]
    if output["dtype"] == np.uint8:  # exported with --byte-outputs
        step, zero_point = output["quantization"]
        probabilities = (probabilities - np.float32(zero_point)) * step
    names = class_names(model)
    for k in np.argsort(-probabilities)[:5]:
        print(f"{probabilities[k]:7.2%}  {names[k] if names else k}")


def class_names(path: str) -> list[str] | None:
    with open(path, "rb") as stream:
        model = Model.GetRootAs(stream.read())
    for k in range(model.MetadataLength()):
        if model.Metadata(k).Name() == b"nasnet_zoo.json":
            told = json.loads(model.Buffers(model.Metadata(k).Buffer()).DataAsNumpy().tobytes())
            return json.loads(told.get("class_names", "null"))
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
