"""Children per hour: the fast child against a Keras model per child with `compile` and `fit`.

The same children on the same images with the same budget, one after the other, the two kinds in turn,
in one process. Aim: 3, 2.5 and 2 times as many children at 100, 300 and 1000 steps, as accurate.

Ratios are given of wall time and of processor time; on a busy machine only the second means much.

With --derive only the first number of steps is run, and the others follow from the time of a step: of
Keras's from the steps of that run, of the fast child's from a second, shorter run of each child.

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
from nasnet_zoo.data import load_data
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search import PPO, Reinforce, SearchSpace
from nasnet_zoo.search.child import Budget, train_child
from nasnet_zoo.search.folder import search_images
from nasnet_zoo.search.search import Job
from nasnet_zoo.search.workers import LocalWorkers

SHORTER = 5


def keras_child(genotype, images, budget, seed):
    """Accuracy of an ordinary Keras model that is trained alike, and the times of a step."""
    keras.utils.set_random_seed(seed)
    _, size, _, channels = images.train_images.shape
    architecture = budget.architecture(genotype, size, channels)
    hyper = dataclasses.replace(CIFAR, l2=budget.l2)
    model = from_architecture(
        architecture, classes=images.classes, classifier_activation=None, hyperparameters=hyper
    )
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
    seconds = {(kind, steps): [] for kind in ("Keras", "fast") for steps in (budget.steps, *derived)}
    accuracies = {"Keras": [], "fast": []}
    # What the first child of a process pays for is no child's cost.
    small = SearchSpace(blocks=1)
    warm = small.genotype([0] * len(small.choices))
    for train in (keras_child, fast_child):
        train(warm, images, dataclasses.replace(budget, steps=8), 0)
    for seed, genotype in enumerate(genotypes):
        arguments = genotype, images, budget, seed
        (accuracy, keras_step), keras_time = timed(keras_child, *arguments)
        accuracies["Keras"].append(accuracy)
        accuracy, fast_time = timed(fast_child, *arguments)
        accuracies["fast"].append(accuracy)
        seconds["Keras", budget.steps].append(keras_time)
        seconds["fast", budget.steps].append(fast_time)
        if derived:
            few = dataclasses.replace(budget, steps=budget.steps // SHORTER)
            _, few_time = timed(fast_child, genotype, images, few, seed)
            fast_step = (fast_time - few_time) / (budget.steps - few.steps)
        for steps in derived:
            more = steps - budget.steps
            seconds["Keras", steps].append(keras_time + more * keras_step)
            seconds["fast", steps].append(fast_time + more * fast_step)
        print(
            f"child {seed}: Keras {keras_time[0]:.1f} s ({keras_time[1]:.1f} s of the processor), "
            f"fast {fast_time[0]:.1f} s ({fast_time[1]:.1f} s)",
            flush=True,
        )
    return seconds, accuracies


def show(seconds, accuracies, steps, measured):
    how = "" if steps == measured else f" (derived from {measured})"
    keras_time, fast_time = (sum(seconds[kind, steps]) for kind in ("Keras", "fast"))
    count = len(seconds["fast", steps])
    wall, processor = keras_time / fast_time
    print(
        f"{steps:5} steps{how}: children per hour: Keras {3600 * count / keras_time[0]:.0f}, "
        f"fast {3600 * count / fast_time[0]:.0f}; ratio {wall:.2f}, of processor time {processor:.2f}"
    )
    if steps == measured:
        means = {kind: statistics.mean(found) for kind, found in accuracies.items()}
        print(f"      mean accuracy: Keras {means['Keras']:.4f}, fast {means['fast']:.4f}")


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
