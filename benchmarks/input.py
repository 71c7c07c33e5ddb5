"""What the input pipeline costs: images a second that it feeds against those that training takes.

The two take turns. Aim: the pipeline feeds at least 3 times what the model consumes.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from nasnet_zoo.data import open_dataset
from nasnet_zoo.training import load_recipe
from nasnet_zoo.training.input import training_batches
from nasnet_zoo.training.training import build, compile_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="fashion_mnist")
    parser.add_argument("--data", required=True, help="as of `nasnet-zoo train`")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    recipe, source = load_recipe(arguments.recipe), open_dataset(arguments.data)
    model = build(recipe, source, 1000)
    compile_model(model, recipe, 100)
    stream = iter(training_batches(source, recipe))
    images, labels = next(stream)
    model.train_on_batch(images, labels)
    fed, consumed = [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        for _ in range(50):
            next(stream)
        fed.append(50 * recipe.run.batch_size / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in range(5):
            model.train_on_batch(images, labels)
        consumed.append(5 * recipe.run.batch_size / (time.perf_counter() - start))
    feeds, takes = statistics.median(fed), statistics.median(consumed)
    print(f"{arguments.recipe}, batch {recipe.run.batch_size}")
    print(f"input pipeline  {feeds:8.0f} images/s  ({1e6 / feeds:.0f} us an image)")
    print(f"training        {takes:8.0f} images/s")
    print(f"ratio           {feeds / takes:8.1f}")


if __name__ == "__main__":
    main()
