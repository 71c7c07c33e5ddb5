"""The settings of a search for networks that classify images. Imports no backend."""

from __future__ import annotations

import dataclasses
import re
import shlex
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from nasnet_zoo.architecture import Architecture, Network
from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, PositiveInt, check_fields
from nasnet_zoo.presets import PRESETS
from nasnet_zoo.search.budget import TrainingBudget, TrainingSettings

# Penultimate filters of a network of NASNet-A's cells, in F: six states, doubled twice.
_WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class ChildBudget(TrainingBudget):
    """How a child that classifies images is trained. Subclasses define `architecture`.

    Args:
        batch_size: Number of images in a step.
        learning_rate: Learning rate of the first step.
        momentum: Nesterov momentum of SGD, in [0, 1).
        l2: Factor of the sum of all squared kernel values, which is added to the loss.
        clip_norm: Largest norm of the gradient.

    Raises:
        ValueError: If a value is out of range.
    """

    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.05
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    l2: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat = 5.0

    #: From the first step's learning rate a cosine goes down to 0.
    schedule = "cosine"

    def architecture(self, genotype: Any, image_size: int, channels: int) -> Network:
        """The network of a child."""
        raise NotImplementedError


@dataclass(frozen=True)
class LatencySettings:
    """How the latency of children is measured.

    Args:
        latency: File that a child is exported as to be timed, with random weights; "litert" and "onnx"
            are in float32. Children then have two more costs: latency_ratio, the time of one image as a
            multiple of that of a yardstick, the network of a published genotype, and latency, the time
            in milliseconds. Default: latency is not measured.
        latency_threads: Number of threads of the runtime.
        latency_target: What is timed: "child", the network that is trained, or its cells as a network
            for ImageNet of N normal cells in a stack and F filters, written as N@24F, as the paper
            names NASNet-A (4@1056: 4 cells, 44 filters).
        latency_image_size: Height and width of the network's images in pixels. Default: those of the
            child, 224 for ImageNet.
        latency_command: Command that times a file elsewhere, such as on a phone, and prints the
            milliseconds of one image. {file} in it stands for the path of the file. It is run without a
            shell: several commands go into a script. Default: files are timed on this machine.

    Raises:
        ValueError: If a value is out of range, or an option has no meaning without another.
    """

    latency: Literal["litert", "litert-int8", "onnx"] | None = None
    latency_threads: PositiveInt = 1
    latency_target: str = "child"
    latency_image_size: PositiveInt | None = None
    latency_command: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        changed = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        if self.latency is None and changed:
            value = getattr(self, changed[0])
            raise ValueError(f"Expected latency with {changed[0]}. Received: {changed[0]}={value}")
        if self.latency_command is not None and self.latency_threads != 1:
            raise ValueError(
                "Expected latency_threads without latency_command, which chooses them itself. "
                f"Received: latency_threads={self.latency_threads}"
            )
        _ = self.command, self.size

    @property
    def command(self) -> list[str] | None:
        """The words of the command."""
        if self.latency_command is None:
            return None
        try:
            words = shlex.split(self.latency_command)
        except ValueError as error:  # no closing quotation
            problem = f": {error}"
        else:
            problem = ""
        if problem or not any("{file}" in word for word in words):
            raise ValueError(
                "Expected latency_command: a command with {file} in it. "
                f"Received: {self.latency_command!r:.200}{problem}"
            )
        return words

    @property
    def size(self) -> tuple[int, int] | None:
        """Number of cells and filters of the network for ImageNet; None for the child's own."""
        if self.latency_target == "child":
            return None
        match = re.fullmatch(r"([1-9]\d{0,2})@([1-9]\d{0,5})", self.latency_target)
        if not match or int(match[2]) % _WIDTH or int(match[2]) < 4 * _WIDTH:
            raise ValueError(
                f"Expected latency_target: child, or N@filters with a multiple of {_WIDTH} from "
                f"{4 * _WIDTH}, such as 4@1056. Received: {self.latency_target!r:.100}"
            )
        return int(match[1]), int(match[2]) // _WIDTH

    def network(self, child: Network, classes: int) -> tuple[Network, int]:
        """The network that is timed for a child, and its number of classes.

        Raises:
            ValueError: If a network for ImageNet is asked for whose cells the child does not have.
        """
        if self.size is not None:
            if not isinstance(child, Architecture):
                raise ValueError(
                    "Expected latency_target=child for children without cells. "
                    f"Received: latency_target={self.latency_target}"
                )
            mobile = PRESETS["nasnet_mobile"]
            cells, filters = self.size
            child = mobile.architecture.replace(genotype=child.genotype, cells=cells, filters=filters)
            classes = mobile.classes
        image_size = self.latency_image_size or child.image_size
        return child.replace(image_size=image_size), classes


@dataclass(frozen=True)
class ImageSettings(TrainingSettings):
    """The settings of a search for networks that classify images.

    Args:
        budget: Training of a child.
        images: Largest number of training images to use, evenly from all classes. Default: all.
        held_out: Share of these images that children are evaluated on and not trained on, in (0, 1).
        image_size: Height and width in pixels that images are resized to, at most 1,024. Default: the
            images' own, 32 for class folders.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    budget: ChildBudget = field(kw_only=True)
    images: PositiveInt | None = None
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    image_size: Annotated[int, Interval(ge=1, le=1024)] | None = None


@dataclass(frozen=True)
class GrownSettings(ImageSettings):
    """The settings of a search for networks that grow from one. Subclasses have a base.

    Args:
        base_weights: Trained model of the base, a .keras file. Default: the base is trained before the
            first child, as long as a child.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: str = "random"
    reward: str | None = "tan(1.5707963 * accuracy)"
    minibatch: PositiveInt = 10
    base_weights: str | None = None

    @property
    def start(self) -> Any:
        """The genotype of the base."""
        raise NotImplementedError

    def make_child(self, images: Any, latency: Any = None, file: Any = None) -> Any:
        """The evaluator of a search; for the arguments see `GrownChild`."""
        raise NotImplementedError
