"""Children that fail as children do: a space of deeds, and an evaluator that does them.

As a script it searches in a folder: ``python deeds.py OUT EXECUTOR SECONDS DEED ...``. Otherwise it
imports no policy, since workers import it.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from nasnet_zoo.search.evaluator import Evaluator, Result
from nasnet_zoo.search.space import SequenceSpace, Step

CHILDREN, MINIBATCH = 12, 4


class Deeds(SequenceSpace):
    """An architecture is a deed and three digits."""

    def __init__(self, *deeds):
        self.deeds = deeds

    @property
    def steps(self):
        return Step("deed", len(self.deeds)), *[Step("digit", 10)] * 3

    def decode(self, actions):
        deed, *digits = self.check(actions)
        return self.deeds[deed], *digits

    def to_json(self, architecture):
        return {"deed": architecture[0], "digits": list(architecture[1:])}

    def from_json(self, data):
        return data["deed"], *data["digits"]


class Doer(Evaluator):
    """Does a child's deed, ``once`` only at the first try, and notes in a folder that it began."""

    def __init__(self, folder, seconds=0.0):
        self.folder, self.seconds = Path(folder), seconds
        self.values = np.linspace(0, 1, 10)

    def setup(self):
        self.worker = os.getpid()

    def evaluate(self, trial):
        deed, *digits = trial.child
        tries = self.begun().count(trial.number)
        with (self.folder / "begun").open("a") as file:
            file.write(f"{trial.number} {self.worker}\n")
        time.sleep(self.seconds)
        what, _, once = deed.partition(" ")
        match "work" if once and tries else what:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                sum(range(10**15))  # in C: nothing but the kernel ends it
            case "hoard":
                bytearray(1 << 50)
            case "diverge":
                return Result(float("nan"))
            case "refuse":
                raise ValueError("cannot be\nbuilt")
            case "mistake":
                self.no_such_attribute()
        return Result(self.reward(digits, trial.seed), metrics={"node": self.node()})

    def reward(self, digits, seed):
        return float(self.values[list(digits)].mean() + np.random.default_rng(seed).normal() / 10)

    def begun(self):
        """The numbers of the children that were begun, in order."""
        return [int(line.split()[0]) for line in self._lines()]

    def workers(self):
        """The processes that began them."""
        return {int(line.split()[1]) for line in self._lines()}

    def _lines(self):
        path = self.folder / "begun"
        return path.read_text().splitlines() if path.exists() else []

    @staticmethod
    def node():
        ray = sys.modules.get("ray")
        return ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else None


class Listed:
    """A policy that proposes the given actions, one after the other."""

    def __init__(self, actions):
        self.actions, self.version, self.asked = actions, 0, 0

    def ask(self, count):
        from nasnet_zoo.search.policies import Proposal

        self.asked += count
        return [Proposal(a, self.version) for a in self.actions[self.asked - count : self.asked]]

    def tell(self, minibatch):
        return {}

    def state(self):
        return {"asked": np.array(self.asked), "version": np.array(self.version)}

    def restore(self, state):
        self.asked, self.version = int(state["asked"]), int(state["version"])


def search(out, executor, seconds, *deeds):
    from nasnet_zoo.search.folder import search_folder
    from nasnet_zoo.search.settings import ExecutorSettings, SearchSettings

    log = Path(f"{out}.log")
    log.mkdir(exist_ok=True)
    settings = SearchSettings(minibatch=MINIBATCH, options={"learning_rate": 0.01})
    evaluator = Doer(log, float(seconds))
    executor = ExecutorSettings(executor, **{"processes": 2} if executor == "processes" else {})
    return search_folder(Deeds(*deeds), evaluator, out, settings, CHILDREN, executor=executor)


if __name__ == "__main__":
    search(*sys.argv[1:])
