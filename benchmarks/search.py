"""Children per hour: the fast child against a Keras model per child with `compile` and `fit`.

The same children on the same images with the same budget, one after the other, the kinds in turn, in
one process. A Keras model is made of `keras.layers`, one for each operation, or of our cells.
Aim: 3, 2.5 and 2 times as many children at 100, 300 and 1000 steps, as accurate.

Ratios are given of wall time and of processor time; on a busy machine only the second means much.

With --derive only the first number of steps is run, and the others follow from the time of a step: of a
Keras model's from the steps of that run, of the fast child's from a second, shorter run of each child.

With --memory it trains so many children in one worker and prints the memory that this takes. (In a
search a worker is replaced after 50.)

With --controller it prints what sampling 20 children and learning from them takes. Aim: 100 ms.
"""

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As in a worker.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np

from nasnet_zoo.cells import CIFAR
from nasnet_zoo.cells.primitives import (
    BatchNorm,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    Pool,
    Relu,
    Shift,
)
from nasnet_zoo.data import load_data
from nasnet_zoo.models import from_architecture
from nasnet_zoo.network import network_graph
from nasnet_zoo.search import PPO, Reinforce, SearchSpace
from nasnet_zoo.search.child import Budget, train_child
from nasnet_zoo.search.folder import search_images
from nasnet_zoo.search.search import Job
from nasnet_zoo.search.workers import LocalWorkers

SHORTER = 5


def of_layers(architecture, classes, l2):
    """The network as a functional model of `keras.layers`."""
    graph = network_graph(architecture, classes)
    shape = architecture.image_size, architecture.image_size, architecture.channels
    kernel = {
        "initializer": keras.initializers.VarianceScaling(2.0),
        "regularizer": keras.regularizers.L2(l2),
    }

    def layers(primitive, filters):
        match primitive:
            case Relu():
                return [keras.layers.ReLU()]
            case Conv(size, stride, dilation, own, padding):
                first = []
                if stride > 1 and size in (1, (1, 1)):
                    # TensorFlow's gradient of such a convolution may write outside its memory.
                    first, stride = [keras.layers.AveragePooling2D(1, stride)], 1
                options = {f"kernel_{name}": value for name, value in kernel.items()}
                options |= {"padding": padding, "dilation_rate": dilation, "use_bias": False}
                return [*first, keras.layers.Conv2D(own or filters, size, stride, **options)]
            case Depthwise(size, stride, dilation):
                options = {f"depthwise_{name}": value for name, value in kernel.items()}
                options |= {"padding": "same", "dilation_rate": dilation, "use_bias": False}
                return [keras.layers.DepthwiseConv2D(size, stride, **options)]
            case BatchNorm():
                return [keras.layers.BatchNormalization(momentum=CIFAR.bn_momentum, epsilon=1e-3)]
            case Pool(kind, size, stride, padding):
                kinds = {"max": keras.layers.MaxPooling2D, "avg": keras.layers.AveragePooling2D}
                return [kinds[kind](size, stride, padding)]
            case Shift():
                crop, pad = keras.layers.Cropping2D, keras.layers.ZeroPadding2D
                return [crop(((1, 0), (1, 0))), pad(((0, 1), (0, 1)))]
            case GlobalAveragePool():
                return [keras.layers.GlobalAveragePooling2D()]
            case Dense(units):
                return [keras.layers.Dense(units, kernel_regularizer=kernel["regularizer"])]
            case _:
                raise ValueError(f"Expected a primitive of the search space. Received: {primitive}")

    merges = {"add": keras.layers.Add, "concat": keras.layers.Concatenate}
    states = {graph.inputs[0]: keras.Input(shape)}
    for node in graph.nodes:
        read = [states[name] for name in node.inputs]
        x = merges[node.merge]()(read) if len(read) > 1 else read[0]
        for primitive in node.primitives:
            for layer in layers(primitive, node.filters):
                x = layer(x)
        states[node.name] = x
    return keras.Model(states[graph.inputs[0]], states[graph.outputs[0]])


def of_cells(architecture, classes, l2):
    """The network as this package builds it."""
    hyper = dataclasses.replace(CIFAR, l2=l2)
    return from_architecture(
        architecture, classes=classes, classifier_activation=None, hyperparameters=hyper
    )


KERAS = {"layers": of_layers, "cells": of_cells}


def keras_child(make, genotype, images, budget, seed):
    """Accuracy of an ordinary Keras model that is trained alike, and the times of a step."""
    keras.utils.set_random_seed(seed)
    _, size, _, channels = images.train_images.shape
    model = make(budget.architecture(genotype, size, channels), images.classes, budget.l2)
    optimizer = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(budget.learning_rate, budget.steps),
        momentum=budget.momentum,
        nesterov=True,
        global_clipnorm=budget.clip_norm,
    )
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    rng = np.random.default_rng(seed)
    count = budget.steps * budget.batch_size
    epochs = -(-count // len(images.train_labels))
    order = np.concatenate([rng.permutation(len(images.train_labels)) for _ in range(epochs)])[:count]
    times = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(clock()))
    model.fit(
        images.train_images[order],
        images.train_labels[order],
        batch_size=budget.batch_size,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    _, accuracy = model.evaluate(
        images.held_out_images, images.held_out_labels, batch_size=500, verbose=0
    )
    keras.backend.clear_session()
    return accuracy, np.diff(times[len(times) // SHORTER :], axis=0).mean(0)


def fast_child(genotype, images, budget, seed):
    """Accuracy of the fast child."""
    trained = train_child(genotype, images, budget, seed)
    assert not trained.failed
    return trained.reward


def clock():
    """Seconds of wall time and of processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(function, *arguments):
    begun = clock()
    return function(*arguments), clock() - begun


def measure(genotypes, images, budget, derived):
    """Times of each child by kind and steps, and accuracies by kind."""
    kinds = (*KERAS, "fast")
    seconds = {(kind, steps): [] for kind in kinds for steps in (budget.steps, *derived)}
    accuracies = {kind: [] for kind in kinds}
    # What the first child of a process pays for is no child's cost.
    small = SearchSpace(blocks=1)
    warm = small.genotype([0] * len(small.choices)), images, dataclasses.replace(budget, steps=8), 0
    for make in KERAS.values():
        keras_child(make, *warm)
    fast_child(*warm)
    for seed, genotype in enumerate(genotypes):
        arguments = genotype, images, budget, seed
        times, step = {}, {}
        for kind, make in KERAS.items():
            (accuracy, step[kind]), times[kind] = timed(keras_child, make, *arguments)
            accuracies[kind].append(accuracy)
        accuracy, times["fast"] = timed(fast_child, *arguments)
        accuracies["fast"].append(accuracy)
        if derived:
            few = dataclasses.replace(budget, steps=budget.steps // SHORTER)
            _, few_time = timed(fast_child, genotype, images, few, seed)
            step["fast"] = (times["fast"] - few_time) / (budget.steps - few.steps)
        for kind in kinds:
            seconds[kind, budget.steps].append(times[kind])
            for steps in derived:
                seconds[kind, steps].append(times[kind] + (steps - budget.steps) * step[kind])
        told = (f"{kind} {wall:.1f} s ({used:.1f} s)" for kind, (wall, used) in times.items())
        print(f"child {seed} (of the processor): {', '.join(told)}", flush=True)
    return seconds, accuracies


def show(seconds, accuracies, steps, measured):
    how = "" if steps == measured else f" (derived from {measured})"
    fast = sum(seconds["fast", steps])
    count = len(seconds["fast", steps])
    print(f"{steps} steps{how}: fast {3600 * count / fast[0]:.0f} children per hour")
    for kind in KERAS:
        total = sum(seconds[kind, steps])
        wall, processor = total / fast
        print(
            f"  of {kind}: {3600 * count / total[0]:.0f}; ratio {wall:.2f}, "
            f"of processor time {processor:.2f}"
        )
    if steps == measured:
        means = (f"{kind} {statistics.mean(found):.4f}" for kind, found in accuracies.items())
        print(f"  mean accuracy: {', '.join(means)}")


def memory(genotypes, images, budget):
    """Prints the memory of a worker that is never replaced, in MB, as it trains children."""
    jobs = [Job(k, genotype, k) for k, genotype in enumerate(genotypes)]
    before = {process.pid for process in multiprocessing.active_children()}
    found = []
    with LocalWorkers(images, budget, 1, children_per_process=len(jobs) + 1) as workers:
        for outcome in workers.run(jobs, lambda number: None):
            assert not outcome.trained.failed, outcome.error
            pids = {process.pid for process in multiprocessing.active_children()} - before
            found.append(max(map(resident, pids)))
            if len(found) % max(1, len(jobs) // 20) == 0:
                print(f"after {len(found)} children: {found[-1]:.0f} MB", flush=True)
    print(f"memory of a worker: at most {max(found):.0f} MB, {found[-1] - found[0]:+.0f} MB in the end")


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def controller(space):
    """Prints the processor time of sampling 20 children and of learning from them, by policy."""
    rewards = np.random.default_rng(0).random(20)
    for make in (Reinforce, PPO):
        policy, times = make(space), []
        for _ in range(21):
            tokens, ask = timed(policy.ask, 20)
            _, tell = timed(policy.tell, tokens, rewards)
            times.append((ask[1], tell[1]))
        ask, tell = 1000 * np.median(times[1:], axis=0)
        print(f"{make.__name__}: 20 children sampled in {ask:.0f} ms, learned from in {tell:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="or a folder, such as Fashion-MNIST's")
    parser.add_argument("--children", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--derive", action="store_true", help="run the first number of steps alone")
    parser.add_argument("--memory", type=int, metavar="CHILDREN")
    parser.add_argument("--controller", action="store_true")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--filters", type=int, default=8)
    arguments = parser.parse_args()
    space, rng = SearchSpace(), np.random.default_rng(0)
    if arguments.controller:
        controller(space)
        return
    images = search_images(load_data(arguments.data, arguments.images), 0.2)
    tokens = space.sample(rng, arguments.memory or arguments.children)
    genotypes = [space.genotype(child) for child in tokens]
    first, *others = arguments.steps
    budget = Budget(filters=arguments.filters, steps=first, batch_size=arguments.batch_size, parts=1)
    if arguments.memory:
        memory(genotypes, images, budget)
    elif arguments.derive:
        found = measure(genotypes, images, budget, others)
        for steps in arguments.steps:
            show(*found, steps, first)
    else:
        for steps in arguments.steps:
            found = measure(genotypes, images, dataclasses.replace(budget, steps=steps), [])
            show(*found, steps, steps)


if __name__ == "__main__":
    main()
