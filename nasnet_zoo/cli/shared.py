"""Options that several commands have, documented once."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from annotated_types import Interval
from tyro.conf import arg

from nasnet_zoo.cells.networks import NetworkGenotype
from nasnet_zoo.checking import PositiveInt

from .figures import JsonFile

Data = Annotated[
    str,
    arg(
        metavar="DATA",
        help='"digits", a folder of IDX files or of class folders, or a data set of TFDS (cifar10, '
        'cifar100, fashion_mnist, imagenet2012, ...). For recurrent cells a text: "pydoc", that of '
        "Python's documentation, a text file, or a folder of Penn Treebank's files ptb.train.txt, ....",
    ),
]
Weights = Annotated[
    str | None,
    arg(metavar="FILE", help='"imagenet", or a file of weights, for a model given by its name.'),
]
Cells = Annotated[
    NetworkGenotype | None,
    arg(help="Cells, or layers, for a model given by its name, such as a search's best.json."),
]
ClassNames = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="Text file with the model's class names, one in each line. Default: those that it holds.",
    ),
]
Json = Annotated[
    JsonFile | None,
    arg(
        help="Write what was found as JSON: to a .json file, or where --json stands alone to standard "
        "output, and nothing else there. docs/command-line.md has its shape."
    ),
]
ImageSide = Annotated[
    PositiveInt | None, arg(help="Height and width of the images in pixels. Default: the model's.")
]
Crop = Annotated[
    float,
    Interval(gt=0, le=1),
    arg(help="Share of an image's shorter side that the model sees, in (0, 1]."),
]
Limit = Annotated[PositiveInt, arg(help="Largest number of images.")]


def recipe_defaults(
    load: Callable[[str], Any], fallback: str
) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Make the defaults of a command whose first word names the recipe in ``settings``.

    Args:
        load: Function from the name of a recipe to the recipe.
        fallback: Name of the recipe that help shows without a name.
    """

    def defaults(words: Sequence[str]) -> dict[str, Any]:
        named = words and not words[0].startswith("-")
        return {"settings": load(words[0] if named else fallback)}

    return defaults
