"""The command line, ``nasnet-zoo``: one small function per subcommand.

Subcommands import what they need themselves: TensorFlow takes seconds to load.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: its arguments. Default: those of the process.

    Returns:
        The exit status: 0, or 1 after an error, which is told in one line on standard error.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"nasnet-zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("nasnet-zoo: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nasnet-zoo", description="NASNet for Keras.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="draw, train, rank, export and check cells on real images")
    demo.add_argument(
        "--data",
        default="digits",
        metavar="digits|FOLDER",
        help="scikit-learn's digits, or a folder of IDX files or of class folders (default: digits)",
    )
    demo.add_argument("--out", default="demo-out", help="folder for what it makes (default: demo-out)")
    demo.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
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
        help="'imagenet', a Keras .h5, a TF-Slim checkpoint, a timm .safetensors or a .weights.h5",
    )
    convert.add_argument("--model", required=True, help="one that `nasnet-zoo models` lists")
    convert.add_argument("--out", required=True, help="file to write, named *.weights.h5")
    convert.add_argument(
        "--classes",
        type=int,
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
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.demo import run_demo
    from nasnet_zoo.quiet import quiet_stderr

    with quiet_stderr():
        run_demo(arguments.data, arguments.out, arguments.seed)


def _models(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.quiet import quiet_stderr

    with quiet_stderr():
        from nasnet_zoo.tables import models_markdown, models_table

    if arguments.markdown:
        from nasnet_zoo.files import write_text

        write_text(arguments.markdown, models_markdown())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "image", "parameters", "published", "mult-adds", "published", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in models_table():
        cells = (row.model, row.image, row.parameters, row.published_parameters)
        table.add_row(*cells, row.mult_adds, row.published_mult_adds)
    Console().print(table)


def _convert(arguments: argparse.Namespace) -> None:
    from nasnet_zoo.quiet import quiet_stderr

    with quiet_stderr():
        from nasnet_zoo.weights.convert import convert

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
