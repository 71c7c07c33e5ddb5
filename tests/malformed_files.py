"""Small good files of every kind that commands read, and malformed ones made of them."""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nasnet_zoo.search.journal import _checksum

GOOD = {
    "keras": "model.keras",
    "weights": "model.weights.h5",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "saved": "saved",
    "genotype": "genotype.json",
    "recipe": "recipe.json",
    "classes": "classes.txt",
    "data": "data",
    "run": "run",
    "search": "search",
    "coco": "coco.json",
    "photos": "photos",
    "photo": "photos/0.png",
    "detector": "detector.keras",
}

CELL = {
    "inputs": 2,
    "blocks": [{"inputs": [0, 1], "operations": ["identity", "sep_3x3"], "combination": "add"}],
    "outputs": [2],
    "labelled": False,
    "projections": 1,
}
GENOTYPE = {"name": "small", "normal": CELL, "reduction": CELL}
RECIPE = {
    "model": {
        "preset": "nasnet_a_6_768_cifar",
        "genotype": GENOTYPE,
        "cells": 1,
        "filters": 2,
        "stem_filters": 2,
        "image_size": 8,
    },
    "optimizer": {"learning_rate": 0.01},
    "run": {"epochs": 1, "batch_size": 4},
}
COCO = {
    "images": [{"id": k, "file_name": f"{k}.png", "height": 16, "width": 16} for k in range(4)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": k + 1, "image_id": k, "category_id": 1, "bbox": [2, 2, 8, 8], "area": 64, "iscrowd": 0}
        for k in range(4)
    ],
}
SEARCH = [
    *("search", "--data", "data", "--out", "search", "--processes", "1", "--minibatch", "2"),
    *("--children", "2", "--space.blocks", "1", "--space.cells", "1"),
    *("--space.operations", "identity", "max_3x3", "--budget.steps", "2", "--budget.evaluations", "1"),
    *("--budget.filters", "2", "--budget.stem-filters", "2", "--budget.batch-size", "4"),
    *("--options", "units=4"),
]


#: Kinds of files that take no training to make.
PLAIN = ("data", "photos", "photo", "coco", "genotype", "recipe", "classes")


def make_plain(folder: Path) -> None:
    """Writes the good files of `PLAIN` kinds."""
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        for k in range(10):
            _picture(folder / f"data/{kind}/{k}.png", rng.integers(0, 256, (8, 8, 3)))
    for k in range(4):
        _picture(folder / f"photos/{k}.png", rng.integers(0, 256, (16, 16, 3)))
    for name, data in (("genotype", GENOTYPE), ("recipe", RECIPE), ("coco", COCO)):
        (folder / f"{name}.json").write_text(json.dumps(data))
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "note.txt").write_text("somebody's own\n")
    (folder / "loop").symlink_to("loop")
    files = ("json", "keras", "png", "svg", "tflite", "weights.h5")
    for name in ("new", *(f"new.{suffix}" for suffix in files), "page.md"):
        (folder / "taken" / name).mkdir(parents=True)


def make_trained(folder: Path) -> None:
    """Writes the other good files; the working directory is the folder of the plain ones."""
    import keras

    import nasnet_zoo.weights
    from nasnet_zoo.cli import main
    from nasnet_zoo.detection.recipes import find_recipe
    from nasnet_zoo.detection.training import build_detector
    from nasnet_zoo.export import export
    from nasnet_zoo.training import changed as changed_recipe

    for command in (["train", "recipe.json", "--data", "data", "--out", "run"], SEARCH):
        if main(command):
            raise RuntimeError(f"{command} failed")
    shutil.copy2(folder / "run/model.keras", folder / "model.keras")
    shipped = Path(nasnet_zoo.weights.__file__).with_name("fashion_mnist.weights.h5")
    shutil.copy2(shipped, folder / "model.weights.h5")
    model = keras.saving.load_model(folder / "model.keras")
    for name in ("model.tflite", "model.onnx", "saved"):
        export(model, folder / name, "saved_model" if name == "saved" else None)
    tiny = {"filters": 4, "stem_filters": 4, "image_size": 32}
    counts = {"candidates": 20, "proposals": 4, "box_samples": 4, "crop_size": 3}
    detector = {"anchor_size": 16.0, "rpn_filters": 4, **counts}
    recipe = changed_recipe(find_recipe("pasted"), model=tiny, detector=detector)
    keras.utils.set_random_seed(0)  # some initial weights find nothing
    build_detector(recipe, ("cat", "dog")).save(folder / "detector.keras")


def _optimized(**fields: float) -> dict[str, Any]:
    return {**RECIPE, "optimizer": {**RECIPE["optimizer"], **fields}}


def _picture(path: Path, pixels: Any) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


# === Malformed files ===


class Malformed(NamedTuple):
    """A malformed file or folder."""

    kind: str
    name: str
    make: Callable[[Path], Any]  # is given the path, in the folder of the good files
    suffix: str

    @property
    def path(self) -> str:
        """Relative to the folder of the good files."""
        return f"malformed/{self.kind}/{self.name}{self.suffix}".replace(" ", "-")


def make_malformed(folder: Path, kinds: Sequence[str] = tuple(GOOD)) -> None:
    """Writes malformed files beside the good ones; the working directory is the folder."""
    for malformed in all_malformed():
        if malformed.kind.removesuffix(" values") not in kinds:
            continue
        path = folder / malformed.path
        path.parent.mkdir(parents=True, exist_ok=True)
        malformed.make(path)


def all_malformed() -> Iterator[Malformed]:
    """The malformed files of every kind."""
    for kind, good in GOOD.items():
        if "." in good:
            for name, make in FILES.items():
                yield Malformed(
                    kind, name, lambda path, m=make, g=good: m(path, Path(g)), _suffix(good)
                )
    for kind, makes in SPECIAL.items():
        for name, make in makes.items():
            stem, _, suffix = name.partition(".")
            yield Malformed(kind, stem, make, f".{suffix}" if suffix else _suffix(GOOD[kind]))
    for kind, changes in JSON.items():
        for number, (place, value) in enumerate(changes):
            data = changed({"genotype": GENOTYPE, "recipe": RECIPE, "coco": COCO}[kind], place, value)
            told = "absent" if value is ABSENT else json.dumps(value)[:30].replace("/", "")
            name = f"{number:03} {place or 'all'}={told}"
            yield Malformed(f"{kind} values", name, lambda path, d=data: _json(path, d), ".json")


def paths(kind: str) -> list[str]:
    """The paths of all malformed files of a kind."""
    return [malformed.path for malformed in all_malformed() if malformed.kind == kind]


def _suffix(name: str) -> str:
    return name[name.index(".") :] if "." in name else ""


def _flip(path: Path, good: Path) -> None:
    """Flips bits of the header and, in archives, of the directory at the end."""
    content = bytearray(good.read_bytes())
    for place in (*range(4, 24), *range(len(content) - 40, len(content))):
        content[place % len(content)] ^= 0x55
    path.write_bytes(content)


def _link(path: Path, target: str) -> None:
    path.symlink_to(target)


#: What can happen to any file, by name: makes one at a path of a good one.
FILES: dict[str, Callable[[Path, Path], Any]] = {
    "missing": lambda path, good: None,
    "empty": lambda path, good: path.write_bytes(b""),
    "folder": lambda path, good: path.mkdir(),
    "noise": lambda path, good: path.write_bytes(np.random.default_rng(1).bytes(300)),
    "latin-1": lambda path, good: path.write_bytes("größer\n".encode("latin-1")),
    "truncated": lambda path, good: path.write_bytes(good.read_bytes()[: good.stat().st_size // 2]),
    "flipped": _flip,
    "loop": lambda path, good: _link(path, path.name),
    "broken link": lambda path, good: _link(path, "nowhere"),
    "below a file": lambda path, good: None,
    "pickle": lambda path, good: path.write_bytes(pickle.dumps(Executed())),
    "picture": lambda path, good: path.write_bytes(Path("photos/1.png").read_bytes()[:60]),
}


class Executed:
    """Its pickle writes a file where it is loaded."""

    def __reduce__(self) -> Any:
        return open, ("executed", "w")


def _keras(edit: Callable[[dict[str, bytes]], Any]) -> Callable[[Path], None]:
    """Makes a .keras file with changed members."""

    def make(path: Path, good: str = "model.keras") -> None:
        with zipfile.ZipFile(good) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        edit(members)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return make


def _config(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def changed_members(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        edit(config)
        members["config.json"] = json.dumps(config).encode()

    return _keras(changed_members)


def _hdf5(edit: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def edited(content: bytes) -> bytes:
        import h5py

        buffer = io.BytesIO(content)
        with h5py.File(buffer, "r+") as file:
            edit(file)
        return buffer.getvalue()

    return edited


def _datasets(file: Any, named: str = "") -> list[Any]:
    import h5py

    found: list[Any] = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return [item for item in found if item.dtype.kind == "f" and named in item.name and item.size]


def _fill(value: float) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        for dataset in _datasets(file):
            if dataset.ndim == 4:
                dataset[...] = value

    return fill


def _negative_variance(file: Any) -> None:
    for dataset in _datasets(file):
        if dataset.ndim == 1:
            dataset[...] = -3.0


def _retype(dtype: Any) -> Callable[[Any], None]:
    def retype(file: Any) -> None:
        dataset = next(d for d in _datasets(file) if d.ndim == 4)
        name, shape = dataset.name, dataset.shape
        del file[name]
        file.create_dataset(name, shape, dtype)

    return retype


def _reshape(file: Any) -> None:
    dataset = next(d for d in _datasets(file) if d.ndim == 4)
    name = dataset.name
    del file[name]
    file[name] = np.zeros((9, 9, 9, 9), np.float32)


def _remove(file: Any) -> None:
    del file[next(d for d in _datasets(file) if d.ndim == 4).name]


def _any_dtype(kind: str) -> Any:
    import h5py

    return {
        "text": h5py.string_dtype(),
        "reference": h5py.ref_dtype,
        "complex": np.complex64,
        "struct": np.dtype([("a", "f4"), ("b", "f4")]),
    }[kind]


WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "nan": _fill(np.nan),
    "infinite": _fill(np.inf),
    "negative variance": _negative_variance,
    "text": lambda file: _retype(_any_dtype("text"))(file),
    "references": lambda file: _retype(_any_dtype("reference"))(file),
    "complex": lambda file: _retype(_any_dtype("complex"))(file),
    "structs": lambda file: _retype(_any_dtype("struct"))(file),
    "other shape": _reshape,
    "one less": _remove,
    "none": lambda file: [file.pop(name) for name in list(file)],
}


def _weights_file(edit: Callable[[Any], Any]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(_hdf5(edit)(Path("model.weights.h5").read_bytes()))


def _keras_weights(edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edited(members: dict[str, bytes]) -> None:
        members["model.weights.h5"] = _hdf5(edit)(members["model.weights.h5"])

    return _keras(edited)


def _model(build: Callable[[Any], Any]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import keras

        build(keras).save(path)

    return make


def _with_lambda(keras: Any) -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x + 1.0)])


def _two_inputs(keras: Any) -> Any:
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    joined = keras.layers.Flatten()(keras.layers.Add()(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(joined))


def _of_numbers(keras: Any) -> Any:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, activation="softmax")])


_DEEP = "[" * 100_000 + "]" * 100_000

_KERAS_FILES: dict[str, Callable[[Path], Any]] = {
    "no config": _keras(lambda members: members.pop("config.json")),
    "no weights": _keras(lambda members: members.pop("model.weights.h5")),
    "config no json": _keras(lambda members: members.update({"config.json": b"x"})),
    "config a list": _keras(lambda members: members.update({"config.json": b"[]"})),
    "config deep": _keras(lambda members: members.update({"config.json": _DEEP.encode()})),
    "unknown class": _config(lambda config: config.update(class_name="Unknown")),
    "of a module": _config(lambda c: c.update(module="os", class_name="system", registered_name=None)),
    "no layers": _config(lambda config: config["config"].pop("layers")),
    "weights noise": _keras(lambda members: members.update({"model.weights.h5": b"noise" * 99})),
    "lambda": _model(_with_lambda),
    **{f"weights {name}": _keras_weights(edit) for name, edit in WEIGHTS.items()},
}


def _safetensors(header: bytes, length: int | None = None) -> Callable[[Path], Any]:
    size = struct.pack("<Q", len(header) if length is None else length)
    return lambda path: path.write_bytes(size + header)


def _tree(files: dict[str, Any]) -> Callable[[Path], None]:
    """Makes a folder of files: bytes, or the path of a good file to copy, or what makes one."""

    def make(path: Path) -> None:
        path.mkdir()
        for name, content in files.items():
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            elif isinstance(content, str):
                shutil.copy2(content, target)
            else:
                content(target)

    return make


def _idx(values: Any, magic: bytes | None = None, shape: Any = None) -> bytes:
    values = np.asarray(values, np.uint8)
    header = magic or bytes((0, 0, 8, values.ndim))
    return header + struct.pack(f">{values.ndim}I", *(shape or values.shape)) + values.tobytes()


_PICTURES, _LABELS = _idx(np.zeros((8, 8, 8))), _idx([0, 1] * 4)
_IDX = {
    "train-images-idx3-ubyte": _PICTURES,
    "train-labels-idx1-ubyte": _LABELS,
    "t10k-images-idx3-ubyte": _PICTURES,
    "t10k-labels-idx1-ubyte": _LABELS,
}
_PNGS = {f"{kind}/{k}.png": f"data/{kind}/{k}.png" for kind in ("cat", "dog") for k in range(10)}


def _pngs(changes: dict[str, Any]) -> Callable[[Path], None]:
    return _tree({**_PNGS, **changes})


def _huge_png(path: Path) -> None:
    """A PNG that says that it has 10**10 pixels."""
    content = bytearray(Path("photos/0.png").read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)


def _start(path: str, length: int) -> Callable[[Path], Any]:
    return lambda target: target.write_bytes(Path(path).read_bytes()[:length])


def _run(name: str, edit: Callable[[Path], Any], of: str = "run") -> Callable[[Path], None]:
    """Makes a copy of a run's folder with one file changed."""

    def make(path: Path) -> None:
        shutil.copytree(of, path)
        edit(path / name)

    return make


def _values(**changes: Any) -> Callable[[Path], None]:
    """Changes a JSON object."""

    def edit(path: Path) -> None:
        data = json.loads(path.read_text())
        for key, value in changes.items():
            data = changed(data, key, value)
        _json(path, data)

    return edit


def _checkpoint(edit: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        edit(arrays)
        np.savez(path, **arrays)

    return make


def _each(change: Callable[[np.ndarray], Any], named: str = "") -> Callable[[dict], None]:
    def edit(arrays: dict[str, np.ndarray]) -> None:
        for name, values in arrays.items():
            if values.dtype.kind == "f" and values.ndim and named in name:
                arrays[name] = np.asarray(change(values))

    return edit


def _sql(*statements: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("pragma foreign_keys = off")
            database.execute("pragma ignore_check_constraints = on")
            for statement in statements:
                database.execute(statement)
            database.commit()
            database.execute("pragma wal_checkpoint(truncate)")

    return edit


def _policy(edit: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    """Changes the arrays of a policy's state in a journal, with new checksums."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute("select name, array from state").fetchall()
            arrays = {name: np.load(io.BytesIO(blob)) for name, blob in rows}
            edit(arrays)
            database.execute("delete from state")
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array)
                row = (name, buffer.getvalue(), _checksum(name, buffer.getvalue()))
                database.execute("insert into state values (?, ?, ?)", row)
            database.commit()
            database.execute("pragma wal_checkpoint(truncate)")

    return change


def _pages(path: Path) -> None:
    """Flips bits in every page of a database but the first."""
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 16] = bytes(byte ^ 0x55 for byte in content[page : page + 16])
    path.write_bytes(content)


_JOURNAL = "journal.sqlite"


def _journal(*statements: str) -> Callable[[Path], None]:
    return _run(_JOURNAL, _sql(*statements), "search")


def _children(assignment: str) -> Callable[[Path], None]:
    return _journal(f"update children set {assignment}")


#: Malformed files of one kind, by name, which may have a suffix of its own.
SPECIAL: dict[str, dict[str, Callable[[Path], Any]]] = {
    "keras": {
        **_KERAS_FILES,
        "two inputs": _model(_two_inputs),
        "no images": _model(_of_numbers),
        "a detector": lambda path: shutil.copy2("detector.keras", path),
    },
    "detector": {**_KERAS_FILES, "a classifier": lambda path: shutil.copy2("model.keras", path)},
    "weights": {
        **{name: _weights_file(edit) for name, edit in WEIGHTS.items()},
        "noise.h5": lambda path: path.write_bytes(b"noise" * 99),
        "noise.safetensors": lambda path: path.write_bytes(b"\xff" * 99),
        "no json.safetensors": _safetensors(b"{{{{"),
        "long.safetensors": _safetensors(b"{}", 2**62),
        "none.safetensors": _safetensors(b"{}"),
        "deep.safetensors": _safetensors(_DEEP.encode()),
        "pickle.pth": lambda path: path.write_bytes(pickle.dumps(Executed())),
        "unknown.npz": lambda path: np.savez(path, a=np.zeros(3)),
        "slim.ckpt.index": lambda path: path.write_bytes(b"noise" * 99),
    },
    "tflite": {
        "an onnx": lambda path: shutil.copy2("model.onnx", path),
        "header alone": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40)),
    },
    "onnx": {
        "a tflite": lambda path: shutil.copy2("model.tflite", path),
        "a picture": lambda path: shutil.copy2("photos/0.png", path),
    },
    "saved": {
        "missing": lambda path: None,
        "empty": lambda path: path.mkdir(),
        "loop": lambda path: _link(path, path.name),
        "a file": lambda path: path.write_text("note"),
        "noise": _tree({"saved_model.pb": b"noise" * 99}),
        "empty file": _tree({"saved_model.pb": b""}),
        "truncated": _run("saved_model.pb", lambda p: p.write_bytes(p.read_bytes()[:999]), "saved"),
        "no variables": _run("variables", shutil.rmtree, "saved"),
        "pictures": _tree({"0.png": "photos/0.png"}),
        "unknown.xyz": lambda path: path.write_text("note"),
    },
    "classes": {
        "three": lambda path: path.write_text("cat\ndog\nbird\n"),
        "one": lambda path: path.write_text("cat\n"),
        "blank lines": lambda path: path.write_text("\n\n\n"),
    },
    "data": {
        "missing": lambda path: None,
        "no such data": lambda path: None,
        "a file": lambda path: path.write_text("note"),
        "a picture.png": lambda path: shutil.copy2("photos/0.png", path),
        "loop": lambda path: _link(path, path.name),
        "empty": lambda path: path.mkdir(),
        "one class": _tree({f"cat/{k}.png": f"data/cat/{k}.png" for k in range(9)}),
        "no pictures": _tree({"cat/a.txt": b"a", "dog/a.txt": b"a"}),
        "one picture a class": _tree({"cat/0.png": "photos/0.png", "dog/0.png": "photos/1.png"}),
        "empty class": _pngs({"eel/.keep": b""}),
        "broken link for a class": _pngs({"eel": lambda path: _link(path, "nowhere")}),
        "empty picture": _pngs({f"{kind}/{k}.png": b"" for kind in ("cat", "dog") for k in range(10)}),
        "noise": _pngs({f"{k}/{n}.png": b"noise" for k in ("cat", "dog") for n in range(10)}),
        "half pictures": _pngs({name: _start(name and f"data/{name}", 60) for name in _PNGS}),
        "folders": _pngs({f"{k}/{n}.png": Path.mkdir for k in ("cat", "dog") for n in range(10)}),
        "broken links": _pngs({name: lambda path: _link(path, "nowhere") for name in _PNGS}),
        "loops": _pngs({name: lambda path: _link(path, path.name) for name in _PNGS}),
        "huge pictures": _pngs(dict.fromkeys(_PNGS, _huge_png)),
        "pickles": _pngs(dict.fromkeys(_PNGS, pickle.dumps(Executed()))),
        "unknown test class": _tree(
            {f"{part}/{name}": good for part in ("train", "test") for name, good in _PNGS.items()}
            | {"test/eel/0.png": "photos/0.png"}
        ),
        "no test pictures": _tree(
            {f"train/{name}": good for name, good in _PNGS.items()}
            | {"test/cat/a": b"", "test/dog/a": b""}
        ),
        "idx no labels": _tree({"train-images-idx3-ubyte": _PICTURES}),
        "idx empty": _tree(dict.fromkeys(_IDX, b"")),
        "idx magic": _tree({**_IDX, "train-images-idx3-ubyte": b"\0\0\x0d\3" + _PICTURES[4:]}),
        "idx truncated": _tree({**_IDX, "t10k-images-idx3-ubyte": _PICTURES[:40]}),
        "idx longer": _tree({**_IDX, "t10k-labels-idx1-ubyte": _LABELS + b"\0"}),
        "idx huge": _tree({**_IDX, "train-images-idx3-ubyte": _PICTURES[:4] + b"\xff" * 12}),
        "idx other count": _tree({**_IDX, "train-labels-idx1-ubyte": _idx([0, 1])}),
        "idx other size": _tree({**_IDX, "t10k-images-idx3-ubyte": _idx(np.zeros((8, 4, 4)))}),
        "idx none": _tree({**_IDX, "train-images-idx3-ubyte": _idx(np.zeros((0, 8, 8)))}),
        "idx broken gzip": _tree(
            {
                "train-images-idx3-ubyte.gz": gzip.compress(_PICTURES)[:30],
                **dict(list(_IDX.items())[1:]),
            }
        ),
        "idx no gzip": _tree({"train-images-idx3-ubyte.gz": _PICTURES, **dict(list(_IDX.items())[1:])}),
    },
    "photo": {"huge": _huge_png, "half": _start("photos/0.png", 100)},
    "coco": {"deep": lambda path: path.write_text('{"images": ' + _DEEP + "}")},
    "genotype": {
        "deep": lambda path: path.write_text('{"normal": ' + _DEEP + "}"),
        "nan": lambda path: path.write_text('{"name": NaN}'),
        "a recipe": lambda path: shutil.copy2("recipe.json", path),
    },
    "recipe": {
        "deep": lambda path: path.write_text('{"model": ' + _DEEP + "}"),
        "nan": lambda path: path.write_text(json.dumps(_optimized(learning_rate=float("nan")))),
        "infinite": lambda path: path.write_text(json.dumps(_optimized(clip_norm=float("inf")))),
        "a genotype": lambda path: shutil.copy2("genotype.json", path),
        "no suffix.txt": lambda path: shutil.copy2("recipe.json", path),
        "flat": lambda path: path.write_text(json.dumps(RECIPE["model"] | RECIPE["run"])),
    },
    "run": {
        "somebody's": _tree({"history.csv": b"own", "model.keras": b"own"}),
        "a file": lambda path: path.write_text("note"),
        "loop": lambda path: _link(path, path.name),
        "run empty": _run("run.json", lambda path: path.write_text("")),
        "run noise": _run("run.json", lambda path: path.write_bytes(b"\xff\xfe\xfd")),
        "run deep": _run("run.json", lambda path: path.write_text(_DEEP)),
        "run a list": _run("run.json", lambda path: path.write_text("[]")),
        "run null": _run("run.json", lambda path: path.write_text("null")),
        "run a folder": _run("run.json", lambda path: (path.unlink(), path.mkdir())),
        "run no recipe": _run("run.json", _values(recipe={})),
        "run recipe a text": _run("run.json", _values(recipe="x")),
        "run no seed": _run(
            "run.json", lambda p: _json(p, changed(json.loads(p.read_text()), "seed", ABSENT))
        ),
        "run other seed": _run("run.json", _values(seed=7)),
        "run other classes": _run("run.json", _values(class_names=["a", "b"])),
        "checkpoint empty": _run("checkpoint.npz", lambda path: path.write_bytes(b"")),
        "checkpoint noise": _run("checkpoint.npz", lambda path: path.write_bytes(b"noise" * 99)),
        "checkpoint flipped": _run("checkpoint.npz", lambda path: _flip(path, path)),
        "checkpoint half": _run("checkpoint.npz", lambda p: p.write_bytes(p.read_bytes()[:9999])),
        "checkpoint a folder": _run("checkpoint.npz", lambda path: (path.unlink(), path.mkdir())),
        "checkpoint pickle": _run("checkpoint.npz", lambda p: p.write_bytes(pickle.dumps(Executed()))),
        "checkpoint objects": _run(
            "checkpoint.npz", _checkpoint(lambda a: a.update(rounds=np.array([Executed()], object)))
        ),
        "checkpoint nan": _run("checkpoint.npz", _checkpoint(_each(lambda v: v * np.nan))),
        "checkpoint infinite": _run("checkpoint.npz", _checkpoint(_each(lambda v: v + np.inf))),
        "checkpoint shape": _run("checkpoint.npz", _checkpoint(_each(lambda v: v[None]))),
        "checkpoint doubles": _run("checkpoint.npz", _checkpoint(_each(lambda v: v.astype("f8")))),
        "checkpoint texts": _run("checkpoint.npz", _checkpoint(_each(lambda v: v.astype("U")))),
        "checkpoint negative": _run(
            "checkpoint.npz", _checkpoint(_each(lambda v: -9 - abs(v), "variance"))
        ),
        "checkpoint none": _run("checkpoint.npz", _checkpoint(lambda arrays: arrays.clear())),
        "checkpoint one less": _run("checkpoint.npz", _checkpoint(lambda a: a.pop(sorted(a)[5]))),
        "checkpoint one more": _run("checkpoint.npz", _checkpoint(lambda a: a.update(x=np.zeros(2)))),
        "checkpoint future": _run(
            "checkpoint.npz", _checkpoint(lambda a: a.update(rounds=np.array(99)))
        ),
        "checkpoint past": _run("checkpoint.npz", _checkpoint(lambda a: a.update(rounds=np.array(-1)))),
        "checkpoint part": _run(
            "checkpoint.npz", _checkpoint(lambda a: a.update(rounds=np.array(0.5)))
        ),
        "history empty": _run("history.csv", lambda path: path.write_text("")),
        "history noise": _run("history.csv", lambda path: path.write_bytes(b"\xff\xfe\0")),
        "history a folder": _run("history.csv", lambda path: (path.unlink(), path.mkdir())),
        "history header": _run("history.csv", lambda p: p.write_text(p.read_text().split("\n")[0])),
        "history other": _run(
            "history.csv", lambda p: p.write_text(p.read_text().replace("\n0,", "\n7,"))
        ),
        "history short": _run("history.csv", lambda p: p.write_text(p.read_text().rsplit(",", 1)[0])),
    },
    "search": {
        "somebody's": _tree({"best.json": b"own", "report.html": b"own"}),
        "a file": lambda path: path.write_text("note"),
        "loop": lambda path: _link(path, path.name),
        "no journal": _run(_JOURNAL, Path.unlink, "search"),
        "empty": _run(_JOURNAL, lambda path: path.write_bytes(b""), "search"),
        "noise": _run(_JOURNAL, lambda path: path.write_bytes(b"noise" * 999), "search"),
        "a folder": _run(_JOURNAL, lambda path: (path.unlink(), path.mkdir()), "search"),
        "flipped": _run(_JOURNAL, lambda path: _flip(path, path), "search"),
        "half": _run(
            _JOURNAL, lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "search"
        ),
        "pages": _run(_JOURNAL, _pages, "search"),
        "another": _run(_JOURNAL, lambda p: (p.unlink(), _sql("create table a (b)")(p)), "search"),
        "no children": _journal("drop table children"),
        "no settings": _journal("delete from search"),
        "settings of a list": _journal("update search set settings = '[]'"),
        "settings of no json": _journal("update search set settings = 'x'"),
        "version 99": _journal("pragma user_version = 99"),
        "version of the policy": _run(
            _JOURNAL, _policy(lambda a: a.update({"policy.version": np.array(99)})), "search"
        ),
        "version negative": _run(
            _JOURNAL, _policy(lambda a: a.update({"policy.version": np.array(-1)})), "search"
        ),
        "version text": _run(
            _JOURNAL, _policy(lambda a: a.update({"policy.version": np.array("x")})), "search"
        ),
        "state empty": _journal("update state set array = x''"),
        "state noise": _journal("update state set array = x'ffffff'"),
        "state unchecked": _journal("update state set checksum = null"),
        "state null": _journal(
            "drop table state",
            "create table state (name text primary key, array blob, checksum integer)",
            "insert into state values ('policy.version', null, null)",
        ),
        "state nan": _run(_JOURNAL, _policy(_each(lambda v: v * np.nan)), "search"),
        "state shape": _run(_JOURNAL, _policy(_each(lambda v: v[None])), "search"),
        "state one less": _run(_JOURNAL, _policy(lambda a: a.pop(sorted(a)[0])), "search"),
        "state none": _run(_JOURNAL, _policy(lambda arrays: arrays.clear()), "search"),
        "state objects": _run(
            _JOURNAL, _policy(lambda a: a.update(x=np.array([Executed()], object))), "search"
        ),
        "changed": _journal("update children set reward = 0.25"),
        "actions": _children("actions = '[0, 1, 0, 0, 99]'"),
        "actions short": _children("actions = '[0]'"),
        "actions text": _children("actions = 'x'"),
        "actions other": _children(
            "actions = case when actions = '[0, 0, 0, 0, 0]' "
            "then '[1, 1, 1, 1, 0]' else '[0, 0, 0, 0, 0]' end"
        ),
        "key": _children("key = '{}'"),
        "architecture": _children("architecture = '{}'"),
        "architecture deep": _children(f"architecture = '{_DEEP}'"),
        "reward": _children("reward = 7"),
        "reward text": _children("reward = 'x'"),
        "no reward": _children("reward = null"),
        "state unknown": _children("state = 'paused'"),
        "curve": _children("curve = '[1'"),
        "metrics": _children("metrics = '[]'"),
        "costs": _children("costs = 'x'"),
        "log-probabilities": _children("log_probabilities = '[1'"),
        "number": _children("number = number + 7"),
        "same as": _children("same_as = 99"),
        "learned": _children("learned = 99"),
        "minibatches": _journal(
            "delete from minibatches", "insert into minibatches values (0, 'x', 0)"
        ),
        "minibatches unchecked": _journal("update minibatches set metrics = 'x', checksum = null"),
        "settings a list": _run("settings.json", lambda path: path.write_text("[]"), "search"),
        "settings edited": _run("settings.json", _values(seed=7), "search"),
        "settings noise": _run("settings.json", lambda path: path.write_bytes(b"\xff"), "search"),
    },
}


# === Malformed values in JSON ===

ABSENT = object()


def changed(data: Any, place: str, value: Any) -> Any:
    """A copy of JSON data with another value at a place such as ``normal.blocks.0``."""
    if not place:
        return value
    data = copy.deepcopy(data)
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    owner = data
    for key in parents:
        owner = owner[key]
    if value is ABSENT:
        del owner[last]
    elif isinstance(owner, list) and last == len(owner):
        owner.append(value)
    else:
        owner[last] = value
    return data


def _json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data))


def _several(places: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(place, value) for place, values in places.items() for value in values]


_BLOCK = CELL["blocks"][0]  # type: ignore[index]
_IMAGE, _BOX = COCO["images"][0], COCO["annotations"][0]

#: Values that do not belong at a place of good JSON, by kind of file.
JSON: dict[str, list[tuple[str, Any]]] = {
    "genotype": _several(
        {
            "": [[], 1, "x", None, {}],
            "name": [1, None, []],
            "extra": [1],
            "normal": [ABSENT, None, [], "x"],
            "reduction": [ABSENT, {}, {**CELL, "inputs": 4}, {**CELL, "labelled": True}],
            "normal.extra": [1],
            "normal.blocks": [ABSENT, [], None, "x", {}, [1], [None], [_BLOCK] * 1000],
            "normal.blocks.0.inputs": [ABSENT, [0], [0, 1, 1], "01", [0, 9], [0, -1], [0, True]],
            "normal.blocks.0.inputs.1": [1.0, None, "1", [1], 10**30],
            "normal.blocks.0.operations": [ABSENT, ["identity"], "identity", [1, 2], [None, None]],
            "normal.blocks.0.operations.0": ["nothing", ["identity"], {}, ""],
            "normal.blocks.0.combination": ["multiply", 1, None, []],
            "normal.outputs": [[], [9], [2, 2], "2", [2.0], None, [-1], {}],
            "normal.inputs": [0, -1, 2.0, "2", True, 10**6, None],
            "normal.labelled": [1, "true", True, None],
            "normal.projections": [0, -1, 1.5, "1", True, 10**6, None],
        }
    ),
    "recipe": _several(
        {
            "": [[], 1, "x", None, {}],
            "extra": [1],
            "model": [ABSENT, "nasnet_mobile", 1, None, [], {}],
            "model.preset": [ABSENT, "unknown", 1, None, []],
            "model.genotype": ["x", 1, [], {}, {"normal": CELL}],
            "model.filters": [0, 2.0, "2"],
            "model.weights": [1, [], True, "missing.h5"],
            "model.image_size": [0, "8", 8.0],
            "model.extra": [1],
            "optimizer": [ABSENT, "sgd", None],
            "optimizer.learning_rate": [0, -1, "0.1", None, True, [0.1]],
            "optimizer.kind": ["adam", 1, None],
            "optimizer.nesterov": [1, "true", None],
            "optimizer.rho": [0.5],
            "run.epochs": [ABSENT, 0, -1, 1.5, "1", True, None, [1]],
            "run.batch_size": [0, -4, 4.0, "4"],
            "run.precision": ["float8", None],
            "augmentation": [{"flip": "yes"}, {"flip": 1}, {"crop": "center"}, {"pad": 2}, [], None],
        }
    ),
    "coco": _several(
        {
            "": [[], {}, "x", None, 1],
            "images": [ABSENT, [], {}, None, "x", [1], [None]],
            "categories": [ABSENT, [], {}, None, [1]],
            "annotations": [ABSENT, {}, None, "x", [1], [None]],
            "images.0.id": [ABSENT, "0", None, 0.5, [], True, 1, 10**30],
            "images.0.file_name": [
                ABSENT,
                1,
                None,
                [],
                "",
                "missing.png",
                "../note.txt",
                "/etc/passwd",
            ],
            "images.0.height": [ABSENT, "16", 0, -16, 16.5, None, 17, 10**30],
            "images.4": [_IMAGE],
            "categories.0.id": [ABSENT, "1", None, 2, []],
            "categories.0.name": [ABSENT, 1, None, "", "dog", []],
            "annotations.0.id": [ABSENT, "1", None, 2, []],
            "annotations.0.image_id": [ABSENT, 99, "0", None, [], {}],
            "annotations.0.category_id": [ABSENT, 99, "1", None, []],
            "annotations.0.bbox": [
                ABSENT,
                [],
                [1, 2, 3],
                "2 2 8 8",
                None,
                {},
                [2, 2, 0, 8],
                [2, 2, -8, 8],
            ],
            "annotations.0.bbox.2": ["8", None, [8], float("nan"), True],
            "annotations.0.bbox.0": [99, -99],
            "annotations.0.area": ["64", -1, None, []],
            "annotations.0.iscrowd": [2, "0", None, []],
            "annotations.4": [_BOX],
        }
    ),
}
