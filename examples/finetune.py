"""Fine-tuning: load weights, freeze, train the new head, unfreeze, train on.

By default it needs no download: a small NASNet-A first learns the digits 0 to 5 (scikit-learn's real
8x8 scans), and its weights then serve to tell 6, 7, 8 and 9 apart from ten images of each. With
``--weights imagenet --data FOLDER`` the same steps fine-tune NASNetMobile on a folder of class
folders.

On two CPU cores the digits take three minutes. Of the test images the pretrained network names
98.6 % (0 to 5); fine-tuned on forty images it names 86.0 % (6 to 9), and trained on the same forty
images from scratch 79.0 %.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

import nasnet_zoo
from nasnet_zoo.data import open_dataset


def small_nasnet(**arguments) -> keras.Model:
    """NASNet-A for 16x16 images: three stacks of one normal cell, 12 filters."""
    return nasnet_zoo.NASNet(
        nasnet_zoo.NASNET_A, cells=1, filters=12, stem="cifar", stem_filters=12, **arguments
    )


def train(model: keras.Model, images, labels, learning_rate: float, epochs: int) -> None:
    """A new learning rate needs a new compile, and so does a layer that was frozen or freed."""
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=min(32, len(images)), epochs=epochs, verbose=0)


def accuracy(model: keras.Model, images, labels) -> float:
    return float(np.mean(model.predict(images, verbose=0).argmax(-1) == labels))


def fine_tune(model: keras.Model, images, labels, epochs: int) -> None:
    """Trains the head on frozen features, then everything with a small learning rate.

    A frozen cell keeps its batch norm in inference mode: the statistics are the pretrained ones.
    """
    backbone = [layer for layer in model.layers if layer.name != "predictions"]
    for layer in backbone:
        layer.trainable = False
    train(model, images, labels, 1e-2, epochs)
    for layer in backbone:
        layer.trainable = True
    train(model, images, labels, 1e-3, epochs)


def digits(epochs: int) -> dict[str, float]:
    """The demonstration without a download; returns test accuracies."""
    keras.utils.set_random_seed(0)
    data = open_dataset("digits", image_size=16).in_memory()
    images, test_images = map(nasnet_zoo.preprocess_input, (data.train_images, data.test_images))
    shape = images.shape[1:]
    old, old_test = data.train_labels < 6, data.test_labels < 6
    pretrained = small_nasnet(classes=6, input_shape=shape)
    train(pretrained, images[old], data.train_labels[old], 3e-3, epochs)
    few = np.concatenate([np.flatnonzero(data.train_labels == digit)[:10] for digit in range(6, 10)])
    few_images, few_labels = images[few], data.train_labels[few] - 6
    new_images, new_labels = test_images[~old_test], data.test_labels[~old_test] - 6

    results = {"0-5": accuracy(pretrained, test_images[old_test], data.test_labels[old_test])}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "digits.weights.h5"
        pretrained.save_weights(weights)
        # Everything but the classifier is loaded, and a warning says so.
        model = small_nasnet(classes=4, input_shape=shape, weights=weights)
    fine_tune(model, few_images, few_labels, 4 * epochs)
    results["6-9, fine-tuned"] = accuracy(model, new_images, new_labels)
    scratch = small_nasnet(classes=4, input_shape=shape)
    train(scratch, few_images, few_labels, 3e-3, 8 * epochs)
    results["6-9, from scratch"] = accuracy(scratch, new_images, new_labels)
    return results


def folder(source: str, weights: str, epochs: int) -> dict[str, float]:
    """NASNetMobile on a data set of your own."""
    data = open_dataset(source, image_size=224).in_memory()
    model = nasnet_zoo.NASNetMobile(classes=len(data.class_names), weights=weights)
    fine_tune(model, nasnet_zoo.preprocess_input(data.train_images), data.train_labels, epochs)
    test_images = nasnet_zoo.preprocess_input(data.test_images)
    return {data.name: accuracy(model, test_images, data.test_labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder of class folders (default: the digits)")
    parser.add_argument("--weights", default="imagenet", help="for --data (default: imagenet)")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    if options.data:
        results = folder(options.data, options.weights, options.epochs)
    else:
        results = digits(options.epochs)
    for name, value in results.items():
        print(f"{name:20}{value:8.1%} of the test images")


if __name__ == "__main__":
    main()
