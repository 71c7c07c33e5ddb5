"""The search machine beside Ray Tune and Optuna: sleeping children of equal length, in turns.

Part ``peers`` of ``benchmarks/scale.py``. Each child makes the 50 choices of the paper's space. What a
child costs is measured alike: a child notes when it ends, and in the middle of a run, when all workers
have begun and there is work for all, each worker ends so many children in so many seconds.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[int, int, float, Path], None]


def child(seconds: float, log: Path) -> float:
    """Sleep, and note the time."""
    time.sleep(seconds)
    with log.open("a") as file:
        file.write(f"{time.time()}\n")
    return float(np.random.default_rng().random())


def processes(workers: int, children: int, seconds: float, log: Path) -> None:
    from scale import search, setup
    from simulated import Lengths, Sleeping

    from nasnet_zoo.search.executors.processes import Processes
    from nasnet_zoo.search.schedulers import Asynchronous

    space, policy = setup()
    with closing(Processes(Sleeping(Lengths(seconds), log), workers)) as executor:
        search(executor, Asynchronous(), children, log.with_suffix(".sqlite"), policy, space)


def ray_tasks(workers: int, children: int, seconds: float, log: Path) -> None:
    import ray
    from scale import search, setup
    from simulated import Lengths, Sleeping

    from nasnet_zoo.search.executors.ray import Ray
    from nasnet_zoo.search.schedulers import Asynchronous

    space, policy = setup()
    with start_ray(workers), closing(Ray(Sleeping(Lengths(seconds), log))) as executor:
        search(executor, Asynchronous(), children, log.with_suffix(".sqlite"), policy, space)
    ray.shutdown()


def start_ray(workers: int) -> Any:
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    return ray.init("local", num_cpus=workers, **quiet)


def tune(workers: int, children: int, seconds: float, log: Path) -> None:
    import ray
    from ray.tune import RunConfig, TuneConfig, Tuner
    from ray.tune.search import ConcurrencyLimiter, Searcher

    class Draws(Searcher):
        """Draws 50 choices of 13; more cheaply than any sampler that learns."""

        def suggest(self, trial_id: str) -> dict[str, int]:
            rng = np.random.default_rng()
            return {f"choice_{k}": int(rng.integers(13)) for k in range(50)}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

    def trainable(config: dict[str, int]) -> dict[str, float]:
        return {"reward": child(seconds, log)}

    with start_ray(workers):
        searcher = ConcurrencyLimiter(Draws(metric="reward", mode="max"), max_concurrent=workers)
        settings = TuneConfig(search_alg=searcher, num_samples=children, reuse_actors=True)
        storage = RunConfig(storage_path=str(log.parent / "tune"), verbose=0)
        Tuner(trainable, tune_config=settings, run_config=storage).fit()
    ray.shutdown()


def optuna_worker(path: Path, sampler: str, children: int, seconds: float, log: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        for k in range(50):
            trial.suggest_categorical(f"choice_{k}", range(13))
        return child(seconds, log)

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        sampler=getattr(optuna.samplers, sampler)(),
        study_name="peers",
        direction="maximize",
        load_if_exists=True,
    )
    study.optimize(objective, n_trials=children)


def optuna(sampler: str) -> Run:
    def run(workers: int, children: int, seconds: float, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        arguments = (log.with_suffix(".journal"), sampler, children // workers, seconds, log)
        started = [context.Process(target=optuna_worker, args=arguments) for _ in range(workers)]
        for process in started:
            process.start()
        for process in started:
            process.join()

    return run


SYSTEMS: dict[str, Run] = {
    "ours, processes, PPO": processes,
    "ours, Ray, PPO": ray_tasks,
    "Ray Tune, ConcurrencyLimiter, random draws, actors reused": tune,
    "Optuna, JournalStorage, TPE (its default)": optuna("TPESampler"),
    "Optuna, JournalStorage, random draws": optuna("RandomSampler"),
}


def measure(run: Run, workers: int, children: int, seconds: float) -> tuple[float, float, float]:
    """Seconds added to a child, share of the workers' time, seconds until the first child begins."""
    with tempfile.TemporaryDirectory() as folder:
        log, begun = Path(folder) / "ends", time.time()
        run(workers, children, seconds, log)
        ends = np.sort(np.loadtxt(log))
    assert len(ends) == children
    # Whole rounds of the workers, which keep step as all children take the same time.
    first, last = 3 * workers - 1, children - workers - 1
    each = workers * (ends[last] - ends[first]) / (last - first)
    return each - seconds, seconds / each, ends[0] - seconds - begun


def run(arguments: argparse.Namespace) -> None:
    from scale import table

    found: dict[str, list[Any]] = {name: [] for name in SYSTEMS}
    for _ in range(arguments.repeats):
        for name, system in SYSTEMS.items():
            figures = measure(system, arguments.workers, arguments.children, arguments.seconds)
            found[name].append(figures)
            print(f"{name}: {figures}", flush=True)
    rows = []
    for name, figures in found.items():
        added, busy, start = np.transpose(figures)
        spread = " / ".join(f"{1000 * value:.0f}" for value in sorted(added))
        rows.append((name, f"{spread} ms", f"{np.median(busy):.1%}", f"{np.median(start):.1f} s"))
    title = (
        f"{arguments.children} children of {arguments.seconds:g} s, {arguments.workers} workers, "
        f"{arguments.repeats} times"
    )
    table((title, "added to a child, each time", "busy", "until the first child"), rows)
