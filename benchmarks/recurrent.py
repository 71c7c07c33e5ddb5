"""Speed of NASCell beside Keras's LSTM of as many parameters, as layers of a sequence.

Both run in the loop of `keras.layers.RNN`, compiled by the same rules. The two take turns; prints the
median time of a call and of a training step, and the median of the ratios. `KERAS_BACKEND` chooses the
backend.
"""

import argparse
import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import nasnet_zoo

BATCH, STEPS, WIDTH = 20, 35, 200


def lstm_units(parameters: int) -> int:
    """Units of the LSTM with the number of parameters that is nearest: 4H(width + H + 1)."""
    half = (WIDTH + 1) / 2
    return round((half**2 + parameters / 4) ** 0.5 - half)


def compiled(layer):
    model = keras.Sequential([keras.Input((STEPS, WIDTH)), layer])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def seconds(run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[64, 200])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10)
    arguments = parser.parse_args()
    inputs = np.random.default_rng(0).normal(size=(BATCH, STEPS, WIDTH)).astype(np.float32)
    print(f"{BATCH} sequences of {STEPS} steps of {WIDTH} values, {keras.backend.backend()}")
    print(f"{'':12}{'LSTM':>26}{'NASCell':>28}{'ratio':>8}")
    for units in arguments.units:
        parameters = 8 * units * (WIDTH + units)
        lstm = compiled(keras.layers.LSTM(lstm_units(parameters), return_sequences=True))
        cell = nasnet_zoo.NASCell(units)
        models = (lstm, compiled(keras.layers.RNN(cell, return_sequences=True)))
        runs = {
            "call": [functools.partial(model.predict_on_batch, inputs) for model in models],
            "training": [
                functools.partial(
                    model.train_on_batch, inputs, np.zeros((BATCH, *model.output_shape[1:]))
                )
                for model in models
            ],
        }
        for kind, pair in runs.items():
            for run in pair:
                seconds(run, 3)
            times = [[seconds(run, arguments.calls) for run in pair] for _ in range(arguments.repeats)]
            columns = "".join(
                f"{m.count_params():14,}{1e3 * t:10.1f} ms" + " " * 2
                for m, t in zip(models, np.median(times, axis=0), strict=True)
            )
            print(f"{kind:12}{columns}{np.median([b / a for a, b in times]):8.2f}")


if __name__ == "__main__":
    main()
