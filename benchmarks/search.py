"""Children per hour of a machine: the search's workers against a Keras model per child, fitted.

The same children on the same images with the same budget. Keras trains them one after the other in one
process, with as many threads as there are workers, as a loop of `compile` and `fit` would; a model is
made of `keras.layers`, one for each operation, or of our cells. The workers of the search have one
thread each. With `--processes 1` everything has one thread. The kinds take turns. Aim: 3, 2.5 and 2
times as many children at 100, 300 and 1000 steps, as accurate.

With --derive only the first number of steps is run, and the others follow from the time of a step: of a
Keras model's from the steps of that run, of the workers' from a second, shorter run of each child.

With --memory it trains so many children in one worker and prints the memory that this takes. (In a
search a worker is replaced after 50.)

With --controller it prints what sampling 20 children and learning from them takes. Aim: 100 ms.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from outcomes import outcomes

from nasnet_zoo.architecture import network_graph
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
from nasnet_zoo.data import open_dataset
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search import (
    PPO,
    Budget,
    Experience,
    LayerwiseBudget,
    LayerwiseSpace,
    NASNetSpace,
    Processes,
    Reinforce,
    Trial,
)
from nasnet_zoo.search.images.child import FastChild, network_inputs
from nasnet_zoo.search.images.search import search_images

# So many children of a kind are trained before it is another kind's turn.
TURN = 4
SHORTER = 5
# Spaces by name: the children, small ones, and the budget of one evaluation.
SPACES = {
    "nasnet": (NASNetSpace(), NASNetSpace(blocks=1), functools.partial(Budget, evaluations=1)),
    "nas-conv": (
        LayerwiseSpace(4, filters=(4, 8, 12)),
        LayerwiseSpace(1, filters=(4,)),
        functools.partial(LayerwiseBudget, schedule="cosine", evaluations=1, best_of=1),
    ),
}


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
                if stride not in (1, (1, 1)) and size in (1, (1, 1)):
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
    """Accuracy of an ordinary Keras model that is trained alike, and the seconds of a step."""
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
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    model.fit(
        network_inputs(images.train_images)[order],
        images.train_labels[order],
        batch_size=budget.batch_size,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    _, accuracy = model.evaluate(
        network_inputs(images.held_out_images), images.held_out_labels, batch_size=500, verbose=0
    )
    keras.backend.clear_session()
    return accuracy, np.diff(times[len(times) // SHORTER :]).mean()


def by_keras(make, trials, images, budget):
    """Trains children one after the other.

    Returns:
        Seconds in all, of a step of each, and the accuracies.
    """
    begun = time.perf_counter()
    accuracies, steps = zip(
        *(keras_child(make, trial.child, images, budget, trial.seed) for trial in trials), strict=True
    )
    return time.perf_counter() - begun, sum(steps), list(accuracies)


class Workers:
    """The search's workers, as many for every budget.

    What the first child of a process pays for is no child's cost: one that does not count is the first.
    """

    def __init__(self, images, processes, warm):
        self.images, self.processes, self.warm, self.by_budget = images, processes, warm, {}

    def __call__(self, trials, budget):
        """Seconds and accuracies of children that are trained side by side."""
        if budget not in self.by_budget:
            self.by_budget[budget] = Processes(FastChild(self.images, budget), self.processes)
            train(self.by_budget[budget], [self.warm] * self.processes)
        begun = time.perf_counter()
        found = train(self.by_budget[budget], trials)
        return time.perf_counter() - begun, [outcome.result.reward for outcome in found]


def train(executor, trials):
    """The outcomes of trials whose children are genotypes."""
    prepare = executor.evaluator.prepare
    return list(outcomes(executor, [trial._replace(child=prepare(trial.child)) for trial in trials]))


def measure(trials, workers, budget, derived):
    """Seconds by kind and steps, and accuracies by kind, of groups of children."""
    images = workers.images
    kinds = (*KERAS, "search")
    seconds = {(kind, steps): 0.0 for kind in kinds for steps in (budget.steps, *derived)}
    accuracies = {kind: [] for kind in kinds}
    few = dataclasses.replace(budget, steps=budget.steps // SHORTER)
    for make in KERAS.values():
        by_keras(make, [workers.warm], images, dataclasses.replace(budget, steps=8))
    for start in range(0, len(trials), TURN):
        group = trials[start : start + TURN]
        taken, step = {}, {}
        for kind, make in KERAS.items():
            taken[kind], step[kind], found = by_keras(make, group, images, budget)
            accuracies[kind] += found
        taken["search"], found = workers(group, budget)
        accuracies["search"] += found
        if derived:
            step["search"] = (taken["search"] - workers(group, few)[0]) / (budget.steps - few.steps)
        for kind in kinds:
            for steps in (budget.steps, *derived):
                more = step[kind] * (steps - budget.steps) if derived else 0
                seconds[kind, steps] += taken[kind] + more
        told = (f"{kind} {second:.1f} s" for kind, second in taken.items())
        print(f"{len(group)} children: {', '.join(told)}", flush=True)
    return seconds, accuracies


def show(seconds, accuracies, steps, measured):
    count = len(accuracies["search"])
    how = "" if steps == measured else f" (derived from {measured})"
    hourly = {kind: 3600 * count / seconds[kind, steps] for kind in accuracies}
    print(f"{steps} steps{how}: the search {hourly['search']:.0f} children per hour")
    for kind in KERAS:
        print(f"  Keras, {kind}: {hourly[kind]:.0f}; ratio {hourly['search'] / hourly[kind]:.2f}")
    if steps == measured:
        means = (f"{kind} {statistics.mean(found):.4f}" for kind, found in accuracies.items())
        print(f"  mean accuracy: {', '.join(means)}")


def memory(trials, images, budget):
    """Prints the memory of a worker that is never replaced, in MB, as it trains children."""
    before = {process.pid for process in multiprocessing.active_children()}
    found = []
    child = FastChild(images, budget)
    prepared = [trial._replace(child=child.prepare(trial.child)) for trial in trials]
    with Processes(child, 1, children_per_process=len(trials) + 1) as executor:
        for _ in outcomes(executor, prepared):
            pids = {process.pid for process in multiprocessing.active_children()} - before
            found.append(max(map(resident, pids)))
            if len(found) % max(1, len(trials) // 20) == 0:
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
            begun = time.process_time()
            proposals = policy.ask(20)
            asked = time.process_time()
            pairs = zip(proposals, rewards, strict=True)
            policy.tell([Experience(k, *pair) for k, pair in enumerate(pairs)])
            times.append((asked - begun, time.process_time() - asked))
        ask, tell = 1000 * np.median(times[1:], axis=0)
        print(f"{make.__name__}: 20 children sampled in {ask:.0f} ms, learned from in {tell:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=SPACES, default="nasnet")
    parser.add_argument("--data", default="digits", help="or a folder, such as Fashion-MNIST's")
    parser.add_argument("--children", type=int, default=8)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--derive", action="store_true", help="run the first number of steps alone")
    parser.add_argument("--memory", type=int, metavar="CHILDREN")
    parser.add_argument("--controller", action="store_true")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--filters", type=int, default=8, help="of the cells of nasnet")
    arguments = parser.parse_args()
    threads = 1 if arguments.controller else arguments.processes
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    (space, small, make_budget), rng = SPACES[arguments.space], np.random.default_rng(0)
    if arguments.controller:
        controller(space)
        return
    images = search_images(open_dataset(arguments.data, limit=arguments.images).in_memory(), 0.2)
    trials = [
        Trial(k, space.genotype(space.sample(rng)), k)
        for k in range(arguments.memory or arguments.children)
    ]
    first, *others = arguments.steps
    budget = make_budget(steps=first, batch_size=arguments.batch_size)
    if isinstance(budget, Budget):
        budget = dataclasses.replace(budget, filters=arguments.filters)
    if arguments.memory:
        memory(trials, images, budget)
        return
    warm = Trial(0, small.genotype([0] * len(small.choices)), 0)
    workers = Workers(images, arguments.processes, warm)
    if arguments.derive:
        found = measure(trials, workers, budget, others)
        for steps in arguments.steps:
            show(*found, steps, first)
    else:
        for steps in arguments.steps:
            found = measure(trials, workers, dataclasses.replace(budget, steps=steps), [])
            show(*found, steps, steps)


if __name__ == "__main__":
    main()
