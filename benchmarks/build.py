"""Time to build the models, beside Keras's own in the same run.

Interleaved repeats; prints the median of each and of the ratios. Aim: NASNetMobile in at most a
third of Keras's time.
"""

import argparse
import gc
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import nasnet_zoo


def seconds(build) -> float:
    gc.collect()
    start = time.perf_counter()
    build()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{'model':14}{'Keras':>10}{'ours':>10}{'ratio':>8}   layers")
    for name in ("NASNetMobile", "NASNetLarge"):
        theirs, ours = getattr(keras.applications, name), getattr(nasnet_zoo, name)
        layers = len(theirs(weights=None).layers), len(ours().layers)
        pairs = [(seconds(lambda: theirs(weights=None)), seconds(ours)) for _ in range(repeats)]  # noqa: B023
        keras_time, our_time = np.median(pairs, axis=0)
        ratio = np.median([b / a for a, b in pairs])
        print(f"{name:14}{keras_time:8.2f} s{our_time:8.2f} s{ratio:8.2f}   {layers[0]} / {layers[1]}")


if __name__ == "__main__":
    main()
