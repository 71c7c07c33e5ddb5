"""Malformed inputs of every command and of the public API, as data.

A command is a template of words in which names of good files stand; a case has another word in the
place of one of them, or of an option's value. A case of the API is an expression.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from malformed_files import GENOTYPE, GOOD, RECIPE, SEARCH, all_malformed, paths

#: Arguments with which a command would do its work, by command.
COMMANDS = {
    "demo": "demo --data {data} --out {out}",
    "models": "models --markdown {page}",
    "convert": "convert {weights} --model nasnet_a_1_384_fashion_mnist --out {h5}",
    "search": "search --data {data} --out {out} --processes 1 --children 2 --minibatch 2",
    "search best": "search best search --out {json}",
    "search list": "search list search --csv {json}",
    "search show": "search show search 0 --picture {svg}",
    "train": "train {recipe} --data {data} --out {out} --model.genotype {genotype}",
    "evaluate": "evaluate {keras} --data {data} --json {json} --picture {png} --classes {classes}",
    "predict": "predict {keras} {photo} --json {json} --classes {classes}",
    "export": "export {keras} --out {lite} --images {data} --classes {classes}",
    "transform": "transform {keras} --wider Stem_Conv=5 --out {new_keras}",
    "verify": "verify {tflite} {keras} --images {data}",
    "benchmark": "benchmark {tflite} --rounds 1 --json {json} --picture {svg} --keras {keras}",
    "detect train": "detect train pasted --train {coco} {photos} --test {coco} {photos} --out {out}",
    "detect evaluate": "detect evaluate {detector} --test {coco} {photos} --image-size 32 "
    "--json {json}",
    "detect predict": "detect predict {detector} {photo} --image-size 32 --out {out} --json {json}",
    "detect export": "detect export {detector} --out {lite} --image-size 32 --images {photo}",
}
#: The same commands on other kinds of files.
OTHERS = {
    "search": [
        " ".join(SEARCH).replace("--out search", "--out {search}").replace("children 2", "children 4")
    ],
    "train": ["train {recipe} --data {data} --out {run}"],
    "evaluate": [
        "evaluate {tflite} --data data",
        "evaluate {onnx} --data data",
        "evaluate {saved} --data data",
    ],
    "predict": [
        "predict {tflite} photos/0.png",
        "predict {onnx} photos/0.png",
        "predict {saved} photos/0.png",
    ],
    "export": [
        "export nasnet_a_1_384_fashion_mnist --weights {weights} --out {lite}",
        "export nasnet_a_6_768_cifar --genotype {genotype} --out {lite}",
    ],
    "verify": ["verify {onnx} model.keras --images data", "verify {saved} model.keras --images data"],
    "benchmark": ["benchmark {onnx} --rounds 1", "benchmark {saved} --rounds 1"],
    "detect train": [
        "detect train pasted --train {coco} photos --test coco.json photos --out {out} "
        "--start-from {detector}"
    ],
}
#: What commands write.
WRITTEN = {
    "out": "new",
    "page": "page.md",
    "h5": "new.weights.h5",
    "json": "new.json",
    "png": "new.png",
    "svg": "new.svg",
    "lite": "new.tflite",
    "new_keras": "new.keras",
}
#: Places where nothing can be written, or must not; {} is the name of a good place.
UNWRITABLE = ("note.txt/{}", "missing/{}", "/proc/{}", "", "loop/{}")
FOLDERS = ("out", "run", "search")
_TRAINED = re.compile(
    r"\b(model|detector|saved|run|search|keras|tflite|onnx|weights|imagenet|NASNet\w*|broken|other"
    r"|backbone|sequential|numbers|two)\b"
)


class Case(NamedTuple):
    """A malformed input.

    Args:
        group: the command, or the part of the API.
        words: of the command; for the API, an expression alone.
    """

    group: str
    words: tuple[str, ...]

    @property
    def is_call(self) -> bool:
        """Whether it is an expression, and no command."""
        return self.group.startswith("API")

    @property
    def is_plain(self) -> bool:
        """Whether it takes files of `PLAIN` kinds alone, and no model."""
        words = self.words if self.is_call else self.words[1:]
        return not any(_TRAINED.search(word) for word in words)

    def __str__(self) -> str:
        return " ".join(word if word and " " not in word else repr(word) for word in self.words)


def cases() -> Iterator[Case]:
    """All cases."""
    seen = set()
    for group, words in (*_files(), *_written(), *_values(), *_commands(), *_calls()):
        if (group, words) not in seen:
            seen.add((group, words))
            yield Case(group, words)


def good_cases() -> Iterator[Case]:
    """The commands that the cases change, with good files; those that take minutes are left out."""
    for group, template in _templates():
        if group not in ("demo", "detect train") and template != COMMANDS["search"]:
            yield Case(group, _filled(template))


Words = Iterator[tuple[str, tuple[str, ...]]]


def _templates() -> Iterator[tuple[str, str]]:
    for group, template in COMMANDS.items():
        for other in (template, *OTHERS.get(group, [])):
            yield group, other


def _filled(template: str, field: str | None = None, value: str = "") -> tuple[str, ...]:
    good = {**GOOD, **WRITTEN} | ({field: value} if field else {})
    return tuple(part.format(**good) for part in template.split(" "))


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _files() -> Words:
    """Every malformed file in the place of every good one of its kind."""
    for group, template in _templates():
        for field in _fields(template):
            for path in paths(field):
                yield group, _filled(template, field, path)
    for malformed in all_malformed():
        if malformed.kind == "recipe values":
            yield "train", _filled(COMMANDS["train"], "recipe", malformed.path)


def _written() -> Words:
    """Places that cannot be written to, in the place of every output."""
    for group, template in _templates():
        for field in _fields(template):
            if field in WRITTEN:
                # Folders are made with those above them.
                places = [place for place in UNWRITABLE if (field, place) != ("out", "missing/{}")]
                for place in places:
                    yield group, _filled(template, field, place and place.format(WRITTEN[field]))
                taken = "note.txt" if field in FOLDERS else f"taken/{WRITTEN[field]}"
                yield group, _filled(template, field, taken)
                # Pictures are drawn into any folder that holds none of their names.
                if field in FOLDERS and group != "detect predict":
                    yield group, _filled(template, field, "data")


# === Values of options ===


def _values() -> Words:
    """Texts that are no numbers, or out of range, for every option that takes one."""
    for group, template in COMMANDS.items():
        for option, count in _numeric(group):
            for value in NO_NUMBERS:
                yield group, (*_filled(template), option, *[value] * count)
        for option in TAKES_ABOVE_0.get(group, ()):
            yield group, (*_filled(template), option, *["0"] * (2 if option == PAIR.get(group) else 1))
    for group, option, fields, values in FIELDS:
        for field in fields:
            for value in values:
                if option == "--options":
                    words = (option, f"{field}={value}")
                else:
                    words = (f"{option}{field.replace('_', '-')}", *value.split(","))
                yield group, (*_filled(COMMANDS[group]), *words)


def _numeric(group: str) -> Iterator[tuple[str, int]]:
    """The options of a command that take numbers, and how many."""
    from nasnet_zoo.checking import describe
    from nasnet_zoo.cli import command_function

    hints = get_type_hints(command_function(group), include_extras=True)
    for settings in {"settings", "limits"} & hints.keys():
        hints |= get_type_hints(hints.pop(settings).__origin__, include_extras=True)
    for name, annotation in hints.items():
        taken = describe(annotation)
        if re.search(r"an int|a finite number", taken) and (group, name) != ("search show", "number"):
            yield f"--{name.replace('_', '-')}", 2 if taken.startswith("2 values") else 1


NO_NUMBERS = ("-1", "nan", "inf", "x", "", "0x10", "1e999", "1,5")
PAIR = {"export": "--image-size", "benchmark": "--image-size"}
TAKES_ABOVE_0 = {
    "convert": ("--classes",),
    "search": (
        "--children",
        "--minibatch",
        "--images",
        "--held-out",
        "--image-size",
        "--early-stop-quantile",
        "--shared-steps",
        "--processes",
    ),
    "search list": ("--top",),
    "train": ("--batch-size", "--checkpoints-per-epoch"),
    "evaluate": ("--image-size", "--crop"),
    "predict": ("--image-size", "--crop", "--top"),
    "export": ("--limit", "--image-size", "--opset"),
    "transform": ("--limit", "--kernel-size"),
    "verify": ("--limit",),
    "benchmark": ("--rounds", "--image-size"),
    "detect evaluate": ("--image-size",),
    "detect predict": ("--image-size",),
    "detect export": ("--image-size",),
}


def _of(part: str, names: str) -> tuple[str, ...]:
    return tuple(f"{part}.{name}" for name in names.split())


_RECIPE_COUNTS = _of("run", "epochs batch_size") + _of(
    "model", "cells filters stem_filters width image_size"
)
_RECIPE_RATES = _of("optimizer", "learning_rate epsilon decay_rate decay_epochs clip_norm")
_RECIPE_SHARES = (
    "model.bn_momentum",
    *_of("optimizer", "momentum rho ema"),
    *_of("regularization", "drop_path_keep label_smoothing"),
)
_RECIPE_MORE = (
    *("optimizer.warmup_epochs", "model.l2", "model.group_lasso", "regularization.auxiliary_weight"),
    *("augmentation.pad", "augmentation.cutout", "run.steps_per_execution"),
)
_DETECTION = _of("detector", "candidates proposals box_samples crop_size rpn_filters anchor_size")
_CHOICES = (
    *_of("optimizer", "kind schedule nesterov"),
    *_of("augmentation", "crop flip color"),
    *_of("run", "precision gradient_checkpointing"),
    *("regularization.drop_path_version", "model.preset"),
)
_BUDGET = (
    "cells",
    "filters",
    "stem_filters",
    "steps",
    "batch_size",
    "learning_rate",
    "clip_norm",
    "evaluations",
)
_PPO = ("units", "learning_rate", "entropy_weight", "baseline_weight", "clip", "epochs")
_BAD = ("-1", "nan", "inf", "x", "")

#: Commands, the part of an option before a field's name, and values that these fields do not take.
FIELDS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("train", "--", _RECIPE_COUNTS + _RECIPE_RATES, (*_BAD, "0")),
    ("train", "--", _RECIPE_SHARES, (*_BAD, "1.5")),
    ("train", "--", _RECIPE_MORE, _BAD),
    ("train", "--", _CHOICES, ("other", "1", "")),
    (
        "train",
        "--",
        ("unknown", "epochs", "run", "run.", ".epochs", "model.genotype", "run.epochs "),
        ("1",),
    ),
    ("detect train", "--", _DETECTION, (*_BAD, "0", "10000000")),
    ("detect train", "--", _RECIPE_COUNTS + _RECIPE_RATES, ("-1", "nan", "0")),
    ("detect train", "--", ("augmentation.cutout", "regularization.drop_path_keep"), ("0.5", "2")),
    ("search", "--budget.", _BUDGET, (*_BAD, "0")),
    ("search", "--budget.", ("momentum", "l2"), _BAD),
    ("search", "--budget.", ("momentum", "evaluations"), ("1000", "1e9")),
    ("search", "--retrain-budget.", _BUDGET, ("-1", "nan", "0")),
    ("search", "--options", _PPO, (*_BAD, "1e999")),
    ("search", "--options", ("units", "learning_rate", "clip", "epochs"), ("0",)),
    ("search", "--options", ("units", "epochs"), ("1.5",)),
    ("search", "--options", ("unknown", "seed", "space", "population"), ("1",)),
    ("search", "--space.", ("blocks", "cells"), (*_BAD, "0", "13", "1.5")),
    ("search", "--space.", ("operations",), ("", "unknown", "identity,identity", "identity,", ",")),
    ("search", "--space.", ("combinations",), ("", "unknown", "add,add", "add,concat,x")),
    ("search", "--space.", ("unknown", ""), ("1",)),
)

# === Lists ===


def _lines(name: str) -> Iterator[str]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return (line for line in text.splitlines() if not line.startswith("#"))


def _commands() -> Words:
    """Whole commands."""
    yield "(none)", ()
    for line in _lines("malformed_commands.txt"):
        words = line.split(" ")
        group = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "(none)")
        yield group, tuple(words)


def _calls() -> Words:
    """Calls, with what stands in the place of "..."; and readers of files with each malformed one."""
    call = ""
    for line in _lines("malformed_calls.txt"):
        if line.startswith(" "):
            yield _name(call), (call.replace("...", line.strip()),)
        else:
            call = line
    readers = {"genotype": "zoo.Genotype.load(...)", "coco": "CocoImages(..., 'photos')"}
    for malformed in all_malformed():
        kind, _, values = malformed.kind.partition(" ")
        if values and kind in readers:
            yield _name(readers[kind]), (readers[kind].replace("...", repr(malformed.path)),)


def _name(call: str) -> str:
    return f"API: {call.split('(')[0].removeprefix('zoo.')}"


def namespace() -> dict[str, Any]:
    """What the expressions of the API's cases name; the working directory holds the good files."""
    import numpy as np

    import nasnet_zoo as zoo
    from nasnet_zoo import data, evaluation, export, prediction, search, training
    from nasnet_zoo.cells import operations
    from nasnet_zoo.detection import coco, faster_rcnn, recipes
    from nasnet_zoo.detection import prediction as detections
    from nasnet_zoo.detection import training as detection
    from nasnet_zoo.export import benchmark
    from nasnet_zoo.search import stopping
    from nasnet_zoo.training import recipes as training_recipes

    modules = (data, evaluation, export, search, training, operations, coco, faster_rcnn, detections)
    modules += (recipes, detection, benchmark, stopping, training_recipes)
    names = {
        name: getattr(module, name) for module in modules for name in {*vars(module), *dir(module)}
    }
    genotype = zoo.Genotype.from_dict(GENOTYPE)
    return names | {
        "zoo": zoo,
        "np": np,
        "nan": np.nan,
        "inf": np.inf,
        "train": training.train,
        "evaluate": evaluation.evaluate,
        "predict": prediction.predict,
        "export": export.export,
        "benchmark": benchmark.benchmark,
        "BLOCK": genotype.normal.blocks[0],
        "CELL": genotype.normal,
        "GENOTYPE": genotype,
        "ARCHITECTURE": zoo.Architecture(genotype, 1, 4, "cifar", 4),
        "MODEL": RECIPE["model"]["preset"],
        "RECIPE": training.load_recipe("recipe.json"),
        "IMAGES": np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8),
        "LABELS": np.array([0, 1, 0, 1]),
        "NAMES": ("cat", "dog"),
    }


def models() -> dict[str, Any]:
    """The models among these names."""
    import keras
    import numpy as np

    import nasnet_zoo as zoo
    from nasnet_zoo.detection.training import load_detector

    genotype = zoo.Genotype.from_dict(GENOTYPE)
    model = keras.saving.load_model("model.keras")
    broken = keras.models.clone_model(model)
    broken.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    other = keras.models.clone_model(model)
    other.set_weights([-3.0 * w for w in model.get_weights()])
    flat = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    images = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    added = keras.layers.Add()(images)
    return {
        "model": model,
        "broken": broken,
        "other": other,
        "detector": load_detector("detector.keras"),
        "backbone": zoo.NASNet(genotype, 1, 4, "cifar", 4, include_top=False),
        "sequential": keras.Sequential(flat),
        "numbers": keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]),
        "two": keras.Model(images, keras.layers.Flatten()(added)),
    }
