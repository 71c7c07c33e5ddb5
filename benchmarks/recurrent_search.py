"""A real search for recurrent cells, and its winner against an LSTM and the published cells.

Searches with PPO on the text of Python's documentation, trains the best children anew, and then trains
the winner, an LSTM, the two published cells and random cells with as many parameters and steps from
several seeds, and judges them on the test text. Prints a Markdown table. It can be stopped at any
moment and goes on where it was.

With --speed it trains so many random cells as the search does, and as `compile` and `fit` do, in turns,
and prints children per hour of one process with one thread. Aim: twice as many.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from nasnet_zoo.cells import NASCELL, NASCELL_MAX
from nasnet_zoo.data.text import open_text
from nasnet_zoo.files import write_text
from nasnet_zoo.search import ExecutorSettings, RecurrentSettings, Trial, search_recurrent_cells

# So few minibatches need a higher learning rate than 15,000 children do.
OPTIONS = {"learning_rate": 0.01, "entropy_weight": 0.001}


def settings_of(level: str) -> RecurrentSettings:
    """Settings of the search. Rewards are near 1."""
    settings = RecurrentSettings("ppo", OPTIONS, level=level)
    budget = dataclasses.replace(settings.budget, scale=10_000.0)
    if level == "characters":
        model = dataclasses.replace(budget.model, embedding_dropout=0.0, dropout=0.0)
        budget = dataclasses.replace(budget, model=model, scale=80.0)
    return dataclasses.replace(settings, budget=budget)


def judged(cell, budget, level: str, seed: int) -> float:
    """Perplexity of the test text after a training, in a process of its own."""
    from nasnet_zoo.search import LanguageChild

    text = open_text("pydoc", level)
    text = dataclasses.replace(text, valid=text.test)
    return LanguageChild(text, budget).evaluate(Trial(0, cell, seed)).metrics["perplexity"]


def compare(arms, level: str, seeds: int, path: Path, processes: int) -> dict[str, list[float]]:
    """Perplexities by arm; what is in the file already is not trained again."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        running = {
            pool.submit(judged, *arms[arm], level, seed): f"{arm}, seed {seed}"
            for seed in range(seeds)
            for arm in arms
            if f"{arm}, seed {seed}" not in found
        }
        for future in as_completed(running):
            found[running[future]] = future.result()
            write_text(path, json.dumps(found, indent=2) + "\n")
            print(f"{running[future]}: {future.result():.2f}", flush=True)
    return {arm: [found[f"{arm}, seed {seed}"] for seed in range(seeds)] for arm in arms}


def search_and_compare(arguments: argparse.Namespace) -> None:
    out, settings = Path(arguments.out), settings_of(arguments.level)
    winner, *_ = search_recurrent_cells(
        "pydoc",
        out,
        settings,
        arguments.children,
        executor=ExecutorSettings(processes=arguments.processes),
        retrain_best=arguments.retrain,
    )
    vocabulary = len(open_text("pydoc", arguments.level).vocabulary)
    budget = settings.budget.for_retraining()
    parameters = budget.model.parameters(NASCELL, vocabulary)
    rng = np.random.default_rng(1)
    random = [settings.space.genotype(settings.space.sample(rng)) for _ in range(arguments.random)]
    cells = {
        "winner": settings.space.from_json(winner.architecture),
        "LSTM": "lstm",
        "NASCell": NASCELL,
        "NASCell with max": NASCELL_MAX,
        **{f"random {k}": cell for k, cell in enumerate(random)},
    }
    arms = {}
    for name, cell in cells.items():
        model = budget.model.with_parameters(parameters, cell, vocabulary)
        arms[name] = cell, dataclasses.replace(budget, model=model)
    path = out / "comparison.json"
    found = compare(arms, arguments.level, arguments.seeds, path, arguments.processes)
    print("| cell | trained | parameters | test perplexity | spread |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for group in ("winner", "LSTM", "NASCell", "NASCell with max", "random"):
        members = [a for a in arms if a == group or (a.startswith(f"{group} ") and group == "random")]
        if not members:
            continue
        runs = [value for arm in members for value in found[arm]]
        cell, own = arms[members[0]]
        spread = statistics.stdev(runs) if len(runs) > 1 else 0.0
        size = own.model.parameters(cell, vocabulary)
        print(f"| {group} | {len(runs)} | {size:,} | {statistics.mean(runs):.2f} | {spread:.2f} |")


def fitted(cell, text, budget, seed: int) -> float:
    """Train a model as a loop of `compile` and `fit` would; its perplexity."""
    import keras

    from nasnet_zoo.data.text import rows_of
    from nasnet_zoo.language import LanguageModel
    from nasnet_zoo.language.training import Perplexity, _FromTheStart, _windows

    keras.utils.set_random_seed(seed)
    model = LanguageModel(cell, budget.model, len(text.vocabulary), stateful=True)
    model.build((budget.batch_size, budget.bptt))
    rate = keras.optimizers.schedules.CosineDecay(budget.learning_rate, budget.steps)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=budget.clip_norm)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[Perplexity()])
    train, valid = (
        _windows(rows_of(tokens, budget.batch_size, budget.bptt), budget.bptt)
        for tokens in (text.train, text.valid)
    )
    # As many steps between evaluations, from the start of the text.
    steps = budget.steps // budget.evaluations
    part = np.concatenate([train] * (1 + steps // len(train)))[:steps].reshape(-1, budget.bptt + 1)
    held_out = valid.reshape(-1, budget.bptt + 1)
    history = model.fit(
        part[:, :-1],
        part[:, 1:],
        batch_size=budget.batch_size,
        epochs=budget.evaluations,
        shuffle=False,
        validation_data=(held_out[:, :-1], held_out[:, 1:]),
        callbacks=[_FromTheStart()],
        verbose=0,
    )
    keras.utils.clear_session()
    return history.history["val_perplexity"][-1]


def measure_speed(arguments: argparse.Namespace) -> None:
    import tensorflow as tf

    from nasnet_zoo.search import LanguageChild

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    settings, text = settings_of(arguments.level), open_text("pydoc", arguments.level)
    child = LanguageChild(text, settings.budget)
    rng = np.random.default_rng(0)
    ways = {
        "search": lambda cell, k: child.evaluate(Trial(k, cell, k)).metrics.get("perplexity", np.nan),
        "compile and fit": lambda cell, k: fitted(cell, text, settings.budget, k),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    number = -1  # what the first child of a process pays for does not count
    while number < arguments.speed:
        cell = settings.space.genotype(settings.space.sample(rng))
        found, took = [], []
        for way, train in ways.items():
            start = time.perf_counter()
            found.append(train(cell, number + 1))
            took.append(time.perf_counter() - start)
            print(f"{way}, child {number}: perplexity {found[-1]:.1f}", flush=True)
        if not np.isfinite(found).all():  # the search ends such a child at once
            continue
        if number >= 0:
            for times, second in zip(seconds.values(), took, strict=True):
                times.append(second)
        number += 1
    for way, times in seconds.items():
        print(f"{way}: {3600 / statistics.mean(times):.0f} children/h")
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="folder for the search and the comparison")
    parser.add_argument("--level", choices=("words", "characters"), default="words")
    parser.add_argument("--children", type=int, default=160)
    parser.add_argument("--retrain", type=int, default=8, help="children to train anew")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    parser.add_argument("--random", type=int, default=5, help="random cells in the comparison")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--speed", type=int, help="children to measure the speed with")
    arguments = parser.parse_args()
    if arguments.speed:
        measure_speed(arguments)
    elif arguments.out:
        search_and_compare(arguments)
    else:
        parser.error("expected --out or --speed")


if __name__ == "__main__":
    main()
