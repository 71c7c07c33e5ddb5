"""Spaces and evaluators for tests. Worker processes import them without a backend."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from nasnet_zoo.search import Evaluator, Result, SequenceSpace, Step


class Function(Evaluator):
    """Evaluates children by a function from a trial to a result."""

    def __init__(self, function, cost=None):
        self.function, self._cost = function, cost

    def evaluate(self, trial):
        return self.function(trial)

    def cost(self, architecture):
        return self._cost(architecture) if self._cost else {}


def experiences(proposals, rewards, first=0):
    """What a policy learns from, of children that are numbered from ``first``."""
    from nasnet_zoo.search import Experience

    pairs = zip(proposals, rewards, strict=True)
    return [Experience(first + k, proposal, float(r)) for k, (proposal, r) in enumerate(pairs)]


class Digit(SequenceSpace):
    """Ten architectures: a digit."""

    steps = (Step("digit", 10),)

    def decode(self, actions):
        return self.check(actions)[0]

    def to_json(self, architecture):
        return {"digit": architecture}

    def from_json(self, data):
        return data["digit"]


class Scripted(Evaluator):
    """Does what an array tells it to do with a digit."""

    def __init__(self, array, setup=None):
        self.array, self._setup = array, setup

    def setup(self):
        if self._setup:
            raise self._setup

    def evaluate(self, trial):
        kind = trial.child
        if kind == 1:
            return Result(float("nan"))
        if kind == 2:
            raise ValueError("two\nlines")
        if kind == 3:
            time.sleep(60)
        if kind == 4:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            sum(range(10**10))  # holds the interpreter's lock
        if kind == 5:
            return "a text"
        if kind == 6:
            return Result(0.5, metrics={"pid": os.getpid(), "address": _mapped(self.array)})
        return Result(float(self.array[kind]))


def _mapped(array):
    """Whether an array lies in a file that is mapped into memory."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < stop:
            return line.split()[-1]
    return ""


class Slow(Evaluator):
    """Takes 0.3 seconds for a digit, which is ten times its reward."""

    def evaluate(self, trial):
        time.sleep(0.3)
        return Result(trial.child / 10)


class Number(SequenceSpace):
    """A hundred architectures: a number of two digits."""

    steps = (Step("digit", 10), Step("digit", 10))

    def decode(self, actions):
        tens, ones = self.check(actions)
        return 10 * tens + ones

    def to_json(self, architecture):
        return {"number": architecture}

    def from_json(self, data):
        return data["number"]


def ignored(*_):
    pass


class Heir(Evaluator):
    """Evaluates a number; what its children inherit is the line of numbers that leads to it.

    Args:
        note: Called with each trial.
    """

    inherits = True

    def __init__(self, note=ignored):
        self.note = note

    def evaluate(self, trial):
        self.note(trial)
        before = [] if trial.weights is None else trial.weights["line"].tolist()
        line = [*before, trial.child]
        weights = {"line": np.array(line), "shaped": np.full((2, len(line)), 0.5, np.float32).T}
        return Result(trial.child / 100 + len(line), metrics={"line": line}, weights=weights)


class Climbing(Evaluator):
    """Evaluates a number eight times; what it goes on from after a pause is what it saw so far.

    Args:
        note: Called with each child, the evaluation it begins after, and the one it ends with.
    """

    evaluations = 8
    objective = "accuracy"

    def __init__(self, note=ignored):
        self.note = note

    @staticmethod
    def curve(number):
        """Grows to a value that only the whole of it tells."""
        noise = [((number + 1) * 7919 * (k + 3)) % 101 / 101 for k in range(8)]
        return tuple((number / 100 * (k + 1) + x * (7 - k) / 4) / 8 for k, x in enumerate(noise))

    def cost(self, architecture):
        return {"size": architecture % 10}

    def evaluate(self, trial):
        seen = [] if trial.checkpoint is None else trial.checkpoint["curve"].tolist()
        last = trial.pause_at or self.evaluations
        self.note(trial.number, len(seen), last)
        curve = (*seen, *self.curve(trial.child)[len(seen) : last])
        if trial.pause_at:
            saved = {"curve": np.array(curve)}
            return Result(curve[-1], curve, "stopped", checkpoint=saved)
        return Result(curve[-1], curve, metrics={"seed": trial.seed})
