"""Names what is in an image by an ONNX file; needs onnxruntime, NumPy and Pillow alone.

python examples/classify_onnx.py model.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, photo: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    _, height, width, channels = image.shape
    mode = "RGB" if channels == 3 else "L"
    pixels = np.asarray(Image.open(photo).convert(mode).resize((width, height)))
    pixels = pixels.reshape(1, height, width, channels)
    if image.type == "tensor(float)":  # exported without --preprocess
        pixels = (pixels / 127.5 - 1).astype(np.float32)
    probabilities = session.run(None, {image.name: pixels})[0][0]
    told = session.get_modelmeta().custom_metadata_map
    names = json.loads(told.get("class_names", "null"))
    for k in np.argsort(-probabilities)[:5]:
        print(f"{probabilities[k]:7.2%}  {names[k] if names else k}")


if __name__ == "__main__":
    main(*sys.argv[1:])
