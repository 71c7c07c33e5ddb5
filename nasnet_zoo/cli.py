"""The command line, ``nasnet-zoo``: one small function per subcommand.

Subcommands import what they need themselves: TensorFlow takes seconds to load.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

from annotated_types import Interval

from nasnet_zoo import __version__
from nasnet_zoo.cells.operations import import_operations
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, Seed, Share, parse
from nasnet_zoo.quiet import start_backend

_DATA = (
    "'digits', a folder of IDX files or of class folders, or a data set of TFDS (cifar10, cifar100, "
    "fashion_mnist, imagenet2012, ...)"
)

_COCO = "annotations in COCO's format, and the folder of the images"
_TOO_LARGE = "expected images, batches and networks that fit into memory. Received: larger ones"
_LONGER = "pixels of the longer side"
_MALFORMED = "refuse malformed images and annotations, or leave them out (default: refuse)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: its arguments. Default: those of the process.

    Returns:
        The exit status: 0; 1 after an error, which is told in one line on standard error; 2 after wrong
        arguments; 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    with_traceback = getattr(arguments, "traceback", False)
    start_backend()
    formatwarning, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        for module in getattr(arguments, "modules", ()):
            import_operations(module)
        arguments.run(arguments)
    except KeyboardInterrupt as stop:
        return _failed(str(stop) or "stopped", with_traceback, 130)
    except MemoryError as error:
        told = f"{_TOO_LARGE}. {error}"
        return _failed(told, with_traceback)
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        return _failed(str(error), with_traceback)
    except Exception as error:
        if type(error).__name__ == "ResourceExhaustedError":  # of TensorFlow
            return _failed(_TOO_LARGE, with_traceback)
        defect = "a defect of nasnet-zoo, or of operations that it was given; --traceback shows where"
        told = f"{defect}. {type(error).__name__}: {error}"
        return _failed(told, with_traceback)
    finally:
        warnings.formatwarning = formatwarning
    return 0


def _warning(message: Warning | str, *place: Any, **line: Any) -> str:
    return f"nasnet-zoo: warning: {' '.join(str(message).split())}\n"


def _failed(told: str, with_traceback: bool, status: int = 1) -> int:
    if with_traceback:
        traceback.print_exc()
    print(f"nasnet-zoo: {' '.join(told.split())}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the options that all commands have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_argument(
            "--traceback",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show where an error was raised, before its line",
        )
        self.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=argparse.SUPPRESS,
            metavar="MODULE",
            help="a Python module, or a .py file, that registers operations; its code is run",
        )

        # No file, folder or name is an empty text.
        self.register("type", None, _text)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a text that is not empty. Received: ''")
    return text


def _number(annotation: Any) -> Callable[[str], Any]:
    """The type of an option that takes what an annotation declares."""

    def read(text: str) -> Any:
        try:
            return parse("a value", text, annotation)
        except ValueError as error:
            told = str(error).replace("Expected a value:", "expected")
            raise argparse.ArgumentTypeError(told) from None

    return read


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nasnet-zoo", description="NASNet for Keras.")
    parser.add_argument("--version", action="version", version=f"nasnet-zoo {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="search cells on real images, train and export the best")
    demo.add_argument(
        "--data",
        default="digits",
        metavar="digits|FOLDER",
        help="scikit-learn's digits, or a folder of IDX files or of class folders (default: digits)",
    )
    demo.add_argument("--out", default="demo-out", help="folder for what it makes (default: demo-out)")
    demo.add_argument("--seed", type=_number(Seed), default=0, help="of all draws (default: 0)")
    demo.set_defaults(run=_demo)

    models = commands.add_parser("models", help="list the papers' models, published and as built here")
    models.add_argument("--markdown", metavar="FILE", help="write the list as a Markdown page instead")
    models.set_defaults(run=_models)

    convert = commands.add_parser(
        "convert",
        help="convert weights of Keras, TF-Slim or timm",
        description="Loads weights into a model and saves them as a .weights.h5 file.",
    )
    convert.add_argument(
        "source",
        help="'imagenet', Keras's .keras, .weights.h5 or .h5, a TF-Slim checkpoint or a .safetensors",
    )
    convert.add_argument("--model", required=True, help="one that `nasnet-zoo models` lists")
    convert.add_argument("--out", required=True, help="file to write, named *.weights.h5")
    convert.add_argument(
        "--classes",
        type=_number(PositiveInt),
        help="of the model (default: its data set's); a classifier for others is not loaded",
    )
    convert.add_argument(
        "--background",
        choices=("drop", "keep"),
        default="drop",
        help="class 0 of a 1001-class TF-Slim or timm classifier (default: drop)",
    )
    convert.add_argument("--no-top", action="store_true", help="leave the classifier out")
    convert.add_argument("--auxiliary-head", action="store_true", help="convert the auxiliary head too")
    convert.set_defaults(run=_convert)
    _add_search(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_verify(commands)
    _add_benchmark(commands)
    _add_detect(commands)
    return parser


def _add_search(commands: argparse._SubParsersAction) -> None:
    search = commands.add_parser(
        "search",
        help="search cells for a data set",
        description="Searches cells: children are sampled, each is trained from scratch and judged "
        "by held-out images. It can be stopped at any moment; the same command goes on from there. "
        "OUT/best.json is the best genotype so far, OUT/report.html the report. The actions tell what "
        "a search has found.",
        usage="nasnet-zoo search --data DATA --out OUT [OPTION ...]\n"
        "       nasnet-zoo search {best,list,show} FOLDER ...",
    )
    search.add_argument("--data", required=True, help=_DATA)
    search.add_argument("--out", required=True, help="folder for the journal, settings and best.json")
    search.add_argument(
        "--children", type=_number(PositiveInt), default=300, help="to sample in all (default: 300)"
    )
    search.add_argument(
        "--policy",
        choices=("ppo", "reinforce", "random", "evolution"),
        default="ppo",
        help="what samples the children (default: ppo)",
    )
    search.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="NAME=NUMBER",
        help="of the policy, such as learning_rate=0.005 entropy_weight=0.001",
    )
    search.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="what is searched: blocks=5 (at most 12) cells=2 operations=NAME,NAME,... "
        "combinations=add,concat",
    )
    search.add_argument(
        "--budget",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="of a child: cells=1 filters=8 stem_filters=16 steps=300 batch_size=64 learning_rate=0.05 "
        "momentum=0.9 l2=0.0001 clip_norm=5 evaluations=3",
    )
    search.add_argument(
        "--minibatch",
        type=_number(PositiveInt),
        default=20,
        help="children that the policy learns from together (20)",
    )
    search.add_argument(
        "--images", type=_number(PositiveInt), help="the most training images to use (default: all)"
    )
    search.add_argument(
        "--held-out",
        type=_number(float),
        default=0.2,
        help="share of them to judge children on (default: 0.2)",
    )
    search.add_argument(
        "--image-size",
        type=_number(PositiveInt),
        help="pixels to scale images to (default: their own)",
    )
    search.add_argument(
        "--early-stop-quantile",
        type=_number(float),
        metavar="QUANTILE",
        help="stop a child whose reward at an evaluation is below this quantile of earlier "
        "children's (0.5: the median stopping rule; default: stop none)",
    )
    search.add_argument(
        "--shared-steps",
        type=_number(PositiveInt),
        metavar="N",
        help="weight sharing: judge children by shared weights, trained for N steps before each "
        "minibatch, and train none from scratch",
    )
    search.add_argument(
        "--retrain",
        type=_number(NonNegativeInt),
        default=0,
        metavar="K",
        help="then train the K best anew, which makes the best of them best.json",
    )
    search.add_argument(
        "--retrain-budget",
        nargs="+",
        metavar="FIELD=VALUE",
        help="what differs from --budget (default: four times the steps)",
    )
    search.add_argument(
        "--compare", metavar="FOLDER", help="the OUT of a random search, to compare with in the report"
    )
    search.add_argument(
        "--processes", type=_number(PositiveInt), help="workers (default: one for each core)"
    )
    search.add_argument("--seed", type=_number(Seed), default=0, help="of all draws (default: 0)")
    search.add_argument("--tensorboard", action="store_true", help="write events to OUT/tensorboard")
    search.set_defaults(run=_search)
    actions = search.add_subparsers(
        title="actions",
        description="They read the folder of a search, while it runs too, and change nothing in it.",
        metavar="ACTION",
        prog="nasnet-zoo search",
        parser_class=_Parser,
        action=_Actions,
    )
    _add_search_actions(actions)


class _Actions(argparse._SubParsersAction):
    """Actions beside what a command does without one, whose options none of them takes."""

    def __call__(self, parser: Any, namespace: Any, values: Any, *more: Any) -> None:
        for action in parser._actions:
            given = getattr(namespace, action.dest, action.default) != action.default
            if given and action.default is not argparse.SUPPRESS:
                raise argparse.ArgumentError(action, f"not allowed with the action {values[0]}")
            action.required = False
        super().__call__(parser, namespace, values, *more)


def _add_search_actions(actions: argparse._SubParsersAction) -> None:
    of_search = "the --out of a search, which may be running"
    best = actions.add_parser("best", help="show the best child so far")
    best.add_argument("folder", help=of_search)
    best.add_argument("--out", metavar="FILE", help="write its genotype as JSON too")
    best.set_defaults(run=_search_best)

    listed = actions.add_parser("list", help="list the children, with rewards and costs")
    listed.add_argument("folder", help=of_search)
    listed.add_argument(
        "--top", type=_number(PositiveInt), help="the most children to list (default: all)"
    )
    listed.add_argument(
        "--sort",
        choices=("reward", "number", "parameters"),
        default="reward",
        help="by reward, best first (default), by number, or by parameters, fewest first",
    )
    files = listed.add_mutually_exclusive_group()
    files.add_argument("--csv", metavar="FILE", help="write the list as CSV too")
    files.add_argument("--json", metavar="FILE", help="write the list as JSON too")
    listed.set_defaults(run=_search_list)

    show = actions.add_parser("show", help="show a child: its cells, and how its training went")
    show.add_argument("folder", help=of_search)
    show.add_argument("number", type=_number(NonNegativeInt), help="of the child")
    show.add_argument("--picture", metavar="FILE", help="draw its cells as SVG too")
    show.set_defaults(run=_search_show)


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train a network by a recipe",
        description="Trains a network by a recipe. Run again with the same --out, it goes on where it "
        "was stopped.",
    )
    train.add_argument(
        "recipe",
        help="cifar10, cifar10_cutout, imagenet_mobile, imagenet_large, finetune, fashion_mnist, "
        "digits, or a .json file of one",
    )
    train.add_argument("--data", required=True, help=_DATA)
    train.add_argument("--out", required=True, help="folder for the checkpoint, history and model")
    train.add_argument("--genotype", metavar="FILE", help="cells to use, such as a search's best.json")
    train.add_argument(
        "--batch-size",
        type=_number(PositiveInt),
        help="other than the recipe's; the learning rate is scaled with it",
    )
    train.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="change fields of the recipe, such as run.epochs=10 augmentation.mixup=0.2, or "
        "evaluation.held_out=0.1 evaluation.keep=best evaluation.patience=20 for early stopping",
    )
    train.add_argument("--seed", type=_number(Seed), default=0, help="of all draws (default: 0)")
    train.add_argument(
        "--checkpoints-per-epoch",
        type=_number(PositiveInt),
        default=1,
        help="checkpoints, each after an evaluation, in an epoch (default: 1)",
    )
    train.add_argument(
        "--deterministic", action="store_true", help="make equal runs equal to the last bit"
    )
    train.add_argument("--tensorboard", action="store_true", help="write events to OUT/tensorboard")
    train.set_defaults(run=_train)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a model, or an exported file, on test images",
        description="Tells top-1 and top-5 accuracy, calibration error, and recall and precision of "
        "every class.",
    )
    evaluate.add_argument("model", help="a .keras, .tflite or .onnx file or a SavedModel folder")
    evaluate.add_argument("--data", required=True, help=_DATA)
    _add_image_options(evaluate)
    evaluate.add_argument("--json", metavar="FILE", help="write the figures as JSON too")
    evaluate.add_argument("--picture", metavar="FILE", help="draw the confusion matrix too")
    evaluate.set_defaults(run=_evaluate)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict the classes of images",
        description="Predicts the classes of image files, prepared as `nasnet-zoo evaluate` prepares "
        "them. A model of 1,000 classes that holds no names is taken for one of ImageNet.",
    )
    predict.add_argument(
        "model",
        help="a .keras, .tflite or .onnx file, a SavedModel folder, or one that `nasnet-zoo models` "
        "lists",
    )
    predict.add_argument("images", nargs="+", metavar="image", help="image files")
    predict.add_argument("--weights", help="'imagenet' or a file of weights, for a model by its name")
    predict.add_argument(
        "--top", type=_number(PositiveInt), default=5, help="the most classes of an image (default: 5)"
    )
    _add_image_options(predict)
    predict.add_argument("--json", metavar="FILE", help="write the predictions as JSON too")
    predict.set_defaults(run=_predict)


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    """The options of how a classifier sees images."""
    parser.add_argument("--image-size", type=_number(PositiveInt), help="pixels (default: the model's)")
    parser.add_argument(
        "--crop",
        type=_number(Annotated[float, Interval(gt=0, le=1)]),
        default=1.0,
        help="share of the shorter side looked at (default: 1.0)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="the model's class names, one in each line (default: those that it holds)",
    )


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export",
        help="write a model as a SavedModel, LiteRT or ONNX file",
        description="Writes a model as a file for a runtime and compares that file with Keras.",
    )
    export.add_argument("model", help="a .keras file, or one that `nasnet-zoo models` lists")
    export.add_argument("--weights", help="'imagenet' or a file of weights, for a model by its name")
    export.add_argument("--genotype", metavar="FILE", help="cells for a model by its name to have")
    export.add_argument("--out", required=True, help="a .tflite or .onnx file, or a folder")
    export.add_argument("--format", help="saved_model, litert or onnx (default: by the name of --out)")
    export.add_argument(
        "--quantization",
        default="float32",
        help="float32 (default), float16, dynamic, int8 or int16x8",
    )
    export.add_argument(
        "--images",
        metavar="DATA",
        help=f"training images to read ranges off, test images to compare on: {_DATA}",
    )
    _add_comparison(export)
    export.add_argument("--classes", help="a text file with the name of a class in each line")
    export.add_argument("--bytes", action="store_true", help="take uint8 images and scale them inside")
    export.add_argument(
        "--byte-outputs", action="store_true", help="give uint8 outputs, from LiteRT files of int8"
    )
    export.add_argument(
        "--image-size",
        type=_number(PositiveInt),
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels, for a model that leaves them open",
    )
    export.add_argument("--opset", type=_number(PositiveInt), help="of ONNX (default: 17)")
    export.add_argument(
        "--converter",
        choices=("native", "official"),
        default="native",
        help="native (default), or official: the format's own, for other layers and open sizes",
    )
    export.set_defaults(run=_export)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    """The options of a comparison with Keras."""
    parser.add_argument(
        "--limit", type=_number(PositiveInt), default=200, help="the most images (default: 200)"
    )
    parser.add_argument(
        "--min-agreement",
        type=_number(Share),
        metavar="SHARE",
        help="least share of the images with the class of Keras (default: 0.99 for float32, 0.98 for "
        "float16, 0.9 for dynamic and int16x8, 0.85 for int8)",
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=_number(Share),
        default=0.05,
        metavar="SHARE",
        help="greatest loss of accuracy (default: 0.05)",
    )


def _add_verify(commands: argparse._SubParsersAction) -> None:
    verify = commands.add_parser(
        "verify",
        help="check an exported file against its Keras model",
        description="Checks that a file computes what a Keras model computes: files of nasnet-zoo "
        "value by value, files of other converters by their outputs. A SavedModel is a program: check "
        "only those that you trust.",
    )
    verify.add_argument("file", help="a SavedModel, .tflite or .onnx file")
    verify.add_argument("model", help="a .keras file, or a model that `nasnet-zoo models` lists")
    verify.add_argument("--weights", help="'imagenet' or a file of weights, for a model by its name")
    verify.add_argument("--genotype", metavar="FILE", help="cells for a model by its name to have")
    verify.add_argument(
        "--images", metavar="DATA", required=True, help=f"test images to compare on: {_DATA}"
    )
    _add_comparison(verify)
    verify.set_defaults(run=_verify)


def _add_benchmark(commands: argparse._SubParsersAction) -> None:
    benchmark = commands.add_parser(
        "benchmark",
        help="measure exported files side by side",
        description="Measures time, memory and operators of exported files, the first the yardstick.",
    )
    benchmark.add_argument("files", nargs="+", help="SavedModels, .tflite and .onnx files")
    benchmark.add_argument(
        "--threads",
        type=_number(NonNegativeInt),
        nargs="+",
        default=[1, 0],
        help="0: one for each core",
    )
    benchmark.add_argument(
        "--rounds", type=_number(PositiveInt), default=20, help="of three runs (default: 20)"
    )
    benchmark.add_argument(
        "--image-size",
        type=_number(PositiveInt),
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels, for files that take any",
    )
    benchmark.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    benchmark.add_argument("--picture", metavar="FILE", help="write a bar chart as SVG")
    benchmark.add_argument(
        "--keras", metavar="MODEL", help="a .keras file: measure Keras's own exports of it first"
    )
    benchmark.set_defaults(run=_benchmark)


def _add_detect(commands: argparse._SubParsersAction) -> None:
    detect = commands.add_parser("detect", help="train, evaluate and use an object detector")
    actions = detect.add_subparsers(title="actions", required=True, metavar="ACTION")

    train = actions.add_parser(
        "train",
        help="train a Faster R-CNN by a recipe",
        description="Trains a Faster R-CNN. Run again with the same --out, it goes on where "
        "it was stopped.",
    )
    train.add_argument("recipe", help="coco_mobile, coco_large or pasted")
    train.add_argument("--train", nargs=2, required=True, metavar=("JSON", "IMAGES"), help=_COCO)
    train.add_argument("--test", nargs=2, required=True, metavar=("JSON", "IMAGES"), help=_COCO)
    train.add_argument("--out", required=True, help="folder for the checkpoint, history and detector")
    train.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="of the recipe")
    train.add_argument("--from", dest="start_from", metavar="FILE", help="a .keras to start from")
    train.add_argument("--malformed", choices=("refuse", "skip"), default="refuse", help=_MALFORMED)
    train.add_argument("--seed", type=_number(Seed), default=0, help="of all draws (default: 0)")
    train.add_argument("--tensorboard", action="store_true", help="write events to OUT/tensorboard")
    train.set_defaults(run=_detect_train)

    evaluate = actions.add_parser("evaluate", help="COCO's twelve numbers of a detector")
    evaluate.add_argument("detector", help="a detector.keras")
    evaluate.add_argument("--test", nargs=2, required=True, metavar=("JSON", "IMAGES"), help=_COCO)
    evaluate.add_argument("--malformed", choices=("refuse", "skip"), default="refuse", help=_MALFORMED)
    evaluate.add_argument("--image-size", type=_number(PositiveInt), required=True, help=_LONGER)
    evaluate.add_argument("--json", metavar="FILE", help="write the detections in COCO's result format")
    evaluate.set_defaults(run=_detect_evaluate)

    predict = actions.add_parser("predict", help="draw or list detections on images")
    predict.add_argument("detector", help="a detector.keras")
    predict.add_argument("images", nargs="+", help="image files")
    predict.add_argument("--out", metavar="FOLDER", help="draw them on pictures in this folder")
    predict.add_argument("--json", metavar="FILE", help="write them as a list of boxes")
    predict.add_argument("--image-size", type=_number(PositiveInt), required=True, help=_LONGER)
    predict.add_argument(
        "--score", type=_number(Share), default=0.5, help="the least of a detection (default: 0.5)"
    )
    predict.set_defaults(run=_detect_predict)

    export = actions.add_parser(
        "export",
        help="write a detector as a SavedModel, LiteRT or ONNX file",
        description="Writes a detector, its suppression included, as a file for a runtime that takes "
        "uint8 images, and compares that file with Keras.",
    )
    export.add_argument("detector", help="a detector.keras")
    export.add_argument("--out", required=True, help="a .tflite or .onnx file, or a folder")
    export.add_argument("--format", help="saved_model, litert or onnx (default: by the name of --out)")
    export.add_argument(
        "--image-size",
        type=_number(PositiveInt),
        required=True,
        help="pixels of the sides of the images",
    )
    export.add_argument(
        "--images", nargs="+", default=[], metavar="FILE", help="to compare on (default: generated)"
    )
    export.set_defaults(run=_detect_export)


def _demo(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.demo import run_demo

    try:
        run_demo(arguments.data, arguments.out, arguments.seed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # its search is not kept, and does not go on


def _models(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.tables import models_markdown, models_table, print_table

    if arguments.markdown:
        from nasnet_zoo.files import write_text

        write_text(arguments.markdown, models_markdown())
        return
    from rich.table import Table

    table = Table("model", "image", "parameters", "published", "mult-adds", "published", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in models_table():
        cells = (row.model, row.image, row.parameters, row.published_parameters)
        table.add_row(*cells, row.mult_adds, row.published_mult_adds)
    print_table(table)


def _convert(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.convert import convert

    report = convert(
        arguments.source,
        arguments.model,
        arguments.out,
        classes=arguments.classes,
        background=arguments.background,
        include_top=not arguments.no_top,
        auxiliary_head=arguments.auxiliary_head,
    )
    print(report)


def _search(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.fields import numbers, with_fields
    from nasnet_zoo.search.folder import search_folder
    from nasnet_zoo.search.settings import Budget, Settings
    from nasnet_zoo.search.space import SearchSpace

    settings = Settings(
        policy=arguments.policy,
        options=numbers(arguments.options),
        space=with_fields(SearchSpace(), arguments.space),
        budget=with_fields(Budget(), arguments.budget),
        minibatch=arguments.minibatch,
        images=arguments.images,
        held_out=arguments.held_out,
        image_size=arguments.image_size,
        early_stop_quantile=arguments.early_stop_quantile,
        shared_steps=arguments.shared_steps,
        seed=arguments.seed,
    )
    longer = None
    if arguments.retrain_budget:
        longer = with_fields(settings.budget, arguments.retrain_budget)
    best, *_ = search_folder(
        arguments.data,
        arguments.out,
        settings,
        arguments.children,
        retrain_best=arguments.retrain,
        retrain_budget=longer,
        compare=arguments.compare,
        processes=arguments.processes,
        tensorboard=arguments.tensorboard,
    )
    print(f"Wrote {arguments.out}/best.json: child {best.number}, {best.reward:.2%} of held-out images")


def _search_best(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.search.command import best_command

    best_command(arguments)


def _search_list(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.search.command import list_command

    list_command(arguments)


def _search_show(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.search.command import show_command

    show_command(arguments)


def _train(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.cells import Genotype
    from nasnet_zoo.fields import with_fields
    from nasnet_zoo.training import changed, load_recipe, train

    recipe = load_recipe(arguments.recipe)
    if arguments.batch_size is not None:
        recipe = recipe.with_batch_size(arguments.batch_size)
    recipe = with_fields(recipe, arguments.set)
    if arguments.genotype:
        recipe = changed(recipe, model={"genotype": Genotype.load(arguments.genotype)})
    train(
        recipe,
        arguments.data,
        arguments.out,
        seed=arguments.seed,
        checkpoints_per_epoch=arguments.checkpoints_per_epoch,
        deterministic=arguments.deterministic,
        tensorboard=arguments.tensorboard,
    )
    print(f"Wrote {arguments.out}/model.keras")


def _evaluate(arguments: argparse.Namespace) -> None:
    from rich.table import Table

    from nasnet_zoo.data import read_class_names
    from nasnet_zoo.evaluation import check_picture, evaluate
    from nasnet_zoo.files import check_writable
    from nasnet_zoo.tables import print_table

    if arguments.json:
        check_writable(arguments.json, [arguments.model])
    if arguments.picture:
        check_writable(arguments.picture, [arguments.model])
        check_picture(arguments.picture)
    names = None if arguments.classes is None else read_class_names(arguments.classes)
    found = evaluate(arguments.model, arguments.data, arguments.image_size, arguments.crop, names)
    table = Table("class", "images", "recall", "precision", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, images, recall, precision in found.per_class():
        table.add_row(name, f"{images:,}", f"{recall:.1%}", f"{precision:.1%}")
    print_table(table)
    print(
        f"{found.images:,} images: top-1 {found.top_1:.2%}, top-5 {found.top_5:.2%}, "
        f"expected calibration error {found.calibration_error:.4f}"
    )
    if arguments.json:
        found.save(arguments.json)
    if arguments.picture:
        found.save_picture(arguments.picture)


def _predict(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.data import read_class_names, read_size
    from nasnet_zoo.files import check_writable, write_text
    from nasnet_zoo.prediction import predict

    if arguments.json:
        read = [arguments.model, arguments.weights, arguments.classes, *arguments.images]
        check_writable(arguments.json, filter(None, read))
    names = None if arguments.classes is None else read_class_names(arguments.classes)
    for path in arguments.images:
        read_size(path)
    model = _classifier(arguments.model, arguments.weights, arguments.image_size)
    found = predict(model, arguments.images, arguments.top, arguments.image_size, arguments.crop, names)
    results = []
    for path, predictions in zip(arguments.images, found, strict=True):
        print(f"{path}:")
        for name, _, probability in predictions:
            print(f"{probability:8.2%}  {name}")
        listed = [
            {"class": name, "index": index, "probability": probability}
            for name, index, probability in predictions
        ]
        results.append({"image": path, "predictions": listed})
    if arguments.json:
        write_text(arguments.json, json.dumps(results, indent=2) + "\n")


def _classifier(name: str, weights: str | None, image_size: int | None) -> Any:
    """The model of a name in the papers' tables, with weights; a file is left as it is."""
    from nasnet_zoo.models import create_model
    from nasnet_zoo.presets import find_preset, list_models

    if weights is None:
        if name in list_models() and not os.path.exists(name):
            raise ValueError(f"Expected --weights for the model {name}. Received: none")
        return name
    channels = find_preset(name).architecture.channels
    shape = None if image_size is None else (image_size, image_size, channels)
    return create_model(name, weights=weights, input_shape=shape)


def _export(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.export.command import export_command

    report = export_command(arguments)
    print(report)


def _verify(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.export.command import verify_command

    print(verify_command(arguments))


def _benchmark(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.export.command import benchmark_command

    reports = benchmark_command(arguments)
    from rich.console import Console
    from rich.table import Table

    from nasnet_zoo.export.benchmark import cells, columns, histogram
    from nasnet_zoo.tables import print_table

    table = Table(*columns(reports), box=None)
    for report in reports:
        table.add_row(*cells(report))
    print_table(table)
    console = Console(markup=False, emoji=False)
    for report in reports:
        console.print(histogram(report), style="dim", soft_wrap=True)


def _detect_train(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.detection.command import train_command

    train_command(arguments)
    print(f"Wrote {arguments.out}/detector.keras")


def _detect_evaluate(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.detection.command import evaluate_command

    for name, value in evaluate_command(arguments).items():
        print(f"{name:6} {value:.3f}" if value >= 0 else f"{name:6} -")


def _detect_predict(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.detection.command import predict_command

    predict_command(arguments)


def _detect_export(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.export.command import export_detector_command

    report = export_detector_command(arguments)
    print(report)
