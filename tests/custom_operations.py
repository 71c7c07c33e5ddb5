"""Operations as a user may register them, in a module that worker processes can import."""

import os
import signal
from dataclasses import dataclass

from keras import ops

from nasnet_zoo.cells import register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.cells.primitives import Conv, Primitive


@dataclass(frozen=True)
class Tanh(Primitive):
    def __call__(self, x, weights, training, hyper):
        return ops.tanh(x), ()


@dataclass(frozen=True)
class Deadly(Primitive):
    """Kills the process that computes it."""

    how: str

    def __call__(self, x, weights, training, hyper):
        if self.how == "memory":
            raise MemoryError
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Broken(Primitive):
    def __call__(self, x, weights, training, hyper):
        return x.no_such_attribute, ()


def register():
    register_operation("tanh", lambda stride, channels, filters: (*conv(1, stride), Tanh()))
    register_operation("large", lambda stride, channels, filters: [Conv(5, stride, padding="valid")])
    register_operation("broken", lambda stride, channels, filters: [*conv(1, stride), Broken()])
    for how in ("kill", "memory"):
        register_operation(how, lambda stride, channels, filters, how=how: [Deadly(how)])
