"""Digests of what the package computes, compared with those that an earlier commit computed.

    python tests/unchanged.py             # compares all sections with tests/unchanged.json
    python tests/unchanged.py costs search
    python tests/unchanged.py --record    # writes them

The costs hold everywhere; the others to the last bit only on one kind of processor with one version of
TensorFlow, so record and compare on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).with_suffix(".json")
Digests = Mapping[str, Any]


def digest(*parts: Any) -> str:
    """A short hash of arrays, bytes and JSON."""
    hashed = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes()
        elif not isinstance(part, bytes):
            part = json.dumps(part, sort_keys=True).encode()
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.hexdigest()[:16]


def weights_digest(model: Any) -> str:
    return digest(*(part for w in model.weights for part in (w.path, np.asarray(w))))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path, contextlib.redirect_stdout(io.StringIO()):
        yield Path(path)


# === The sections ===


def costs() -> Digests:
    """Parameters, statistics, multiply-adds and memory of every model, counted without Keras."""
    from nasnet_zoo import architecture_cost, list_models
    from nasnet_zoo.presets import find_preset

    presets = {name: find_preset(name) for name in list_models()}
    return {
        name: list(dataclasses.astuple(architecture_cost(preset.architecture, preset.classes)))
        for name, preset in presets.items()
    }


def models() -> Digests:
    """Every model with few cells: seeded weights, what it computes, its features' names and shapes."""
    import keras

    from nasnet_zoo import (
        Architecture,
        CondenseArchitecture,
        TreeArchitecture,
        end_points,
        list_models,
    )
    from nasnet_zoo.models import from_architecture
    from nasnet_zoo.presets import find_preset

    found = {}
    for name in list_models():
        architecture = find_preset(name).architecture
        if isinstance(architecture, Architecture):
            architecture = dataclasses.replace(architecture, cells=2, filters=8, stem_filters=8)
        if isinstance(architecture, TreeArchitecture):
            architecture = dataclasses.replace(architecture, cells=2, width=8)
        if isinstance(architecture, CondenseArchitecture):
            architecture = architecture.replace(stages=(1, 2), growth=(8, 16), cell_layers=(0, 1))
        size = 64 if architecture.least_size > 1 else 16
        shape = (size, size, architecture.channels)
        keras.utils.set_random_seed(3)
        model = from_architecture(architecture, input_shape=shape, classes=7)
        images = np.random.default_rng(3).uniform(-1, 1, (2, *shape)).astype(np.float32)
        points = keras.tree.map_structure(lambda tensor: str(tensor.shape), end_points(model))
        found[f"{name} weights"] = weights_digest(model)
        found[f"{name} output"] = digest(np.asarray(model(images)))
        found[f"{name} end points"] = digest(points)
    return found


def _onnx(path: Path) -> str:
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    return digest(model.SerializeToString(deterministic=True))


def _litert(path: Path) -> str:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    for metadata in model.metadata or ():
        model.buffers[metadata.buffer].data = None

    def plain(value: Any) -> Any:
        if hasattr(value, "__dict__"):
            return {key: plain(part) for key, part in vars(value).items()}
        if isinstance(value, np.ndarray | bytes):
            return digest(value)
        return [plain(part) for part in value] if isinstance(value, list) else value

    return digest(plain(model))


def exports() -> Digests:
    """LiteRT and ONNX files: their bytes, and their graphs and weights without metadata."""
    import keras

    from nasnet_zoo import NASNet, NASNetA_1_384_FashionMNIST
    from nasnet_zoo.cells import OPERATIONS, Block, CellGenotype, Genotype
    from nasnet_zoo.export import export

    operations, cell = list(OPERATIONS), []
    for first in range(0, len(operations), 2):
        pair = (operations[first], operations[(first + 1) % len(operations)])
        cell.append(Block((first // 2 % 2, 1 - first // 2 % 2), pair))
    every = CellGenotype(tuple(cell))
    keras.utils.set_random_seed(4)
    small = NASNet(
        Genotype("every", every, every), 1, 4, "cifar", 4, input_shape=(16, 16, 3), classes=5
    )
    made = {
        "fashion_mnist": (NASNetA_1_384_FashionMNIST(weights="fashion_mnist"), ["float32"]),
        "every_operation": (small, ["float32", "float16", "int8"]),
    }
    found = {}
    for name, (model, quantizations) in made.items():
        shape = (8, *model.input_shape[1:])
        images = np.random.default_rng(4).uniform(-1, 1, shape).astype(np.float32)
        for quantization in quantizations:
            for read, suffix in ((_litert, "tflite"), (_onnx, "onnx")):
                title = f"{name}.{quantization}.{suffix}"
                representative = images if quantization == "int8" else None
                with folder() as out:
                    export(
                        model,
                        out / title,
                        quantization=quantization,
                        representative=representative,
                        images=images,
                        min_agreement=0,
                    )
                    found[title] = digest((out / title).read_bytes())
                    found[f"{title} graph"] = read(out / title)
    return found


def tabular() -> Digests:
    """Searches in the tabular benchmark: children and rewards, by policy and seed."""
    from nasnet_zoo.search import POLICIES, Experience, TabularBenchmark

    table, found = TabularBenchmark.load(), {}
    for name in ("ppo", "reinforce", "random", "evolution"):
        for seed in range(3):
            policy, parts = POLICIES[name](table.space, seed=seed), []
            for _ in range(10):
                proposals = policy.ask(20)
                rewards = [table.final[table.row(proposal.actions)] for proposal in proposals]
                policy.tell([Experience(0, *pair) for pair in zip(proposals, rewards, strict=True)])
                children = [proposal.actions for proposal in proposals]
                parts += [np.array(children, np.int32), np.array(rewards)]
            found[f"{name} {seed}"] = digest(*parts)
    return found


def search() -> Digests:
    """Searches that train children: genotypes, seeds, rewards, losses and the policy's last weights."""
    from rich.console import Console

    from nasnet_zoo.search import (
        Budget,
        ExecutorSettings,
        Journal,
        NASNetSpace,
        Settings,
        search_cells,
    )

    kinds = {
        "ppo": {"options": {"learning_rate": 0.01}},
        "reinforce": {"options": {"learning_rate": 0.01}, "minibatch": 2},
        "evolution": {"options": {"population": 4, "sample": 2}, "early_stop_quantile": 0.5},
        "random": {},
        "ppo, shared weights": {"shared_steps": 4},
    }
    found = {}
    for name, changes in kinds.items():
        settings = Settings(
            **{
                "policy": name.partition(",")[0],
                "space": NASNetSpace(blocks=2, cells=1, operations=("identity", "sep_3x3", "max_3x3")),
                "budget": Budget(steps=12, filters=4, stem_filters=4, batch_size=32),
                "minibatch": 3,
                "images": 300,
                "seed": 5,
                **changes,
            }
        )
        children = 30 if name == "evolution" else 9
        with folder() as out:
            console = Console(file=io.StringIO())
            executor = ExecutorSettings(processes=None if settings.shared_steps else 1)
            best = search_cells(
                "digits",
                out,
                settings,
                children,
                executor=executor,
                retrain_best=1,
                console=console,
            )
            with Journal(out / "journal.sqlite") as journal:
                records, state = journal.children(), journal.state()
        genotypes = [{"name": record.name, **record.architecture} for record in records]
        found[f"{name}: genotypes"] = digest(genotypes)
        found[f"{name}: seeds"] = digest([record.seed for record in records])
        found[f"{name}: rewards"] = [record.reward for record in records]
        found[f"{name}: curves"] = digest([curves(record) for record in records])
        found[f"{name}: retrained"] = [best[0].number, best[0].reward]
        weights = {part.partition(".")[2]: array for part, array in state.items()}
        if trained := [weights[part] for part in sorted(weights) if part.isdigit()]:
            found[f"{name}: controller"] = digest(*trained)
        if name.endswith("shared weights"):
            found[f"{name}: shared"] = digest(weights["weights"], weights["momenta"])
    return found


def curves(record: Any) -> list:
    return [list(record.curve), list(record.metrics.get("losses", ()))]


def training() -> Digests:
    """The weights after a training by the recipe for digits."""
    from nasnet_zoo.training.recipes import changed, load_recipe
    from nasnet_zoo.training.training import train

    recipe = changed(load_recipe("digits"), run={"epochs": 2})
    with folder() as out:
        model = train(recipe, "digits", out, seed=6, deterministic=True, verbose=0)
        history = (out / "history.csv").read_text().splitlines()
    return {"weights": weights_digest(model), "epochs": len(history) - 1}


#: Training comes last, as it makes all kernels of the process deterministic.
SECTIONS = {f.__name__: f for f in (costs, models, exports, tabular, search, training)}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterable[str]:
    for name in {**expected, **found}:
        if expected.get(name) != found.get(name):
            yield f"{name}: expected {expected.get(name)}. Received: {found.get(name)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION")
    parser.add_argument("--record", action="store_true", help="write the digests")
    arguments = parser.parse_args()
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    changed = False
    for name, compute in SECTIONS.items():
        if arguments.sections and name not in arguments.sections:
            continue
        found = json.loads(json.dumps(compute()))
        if arguments.record:
            recorded[name] = found
            print(f"{name}: {len(found)} recorded", flush=True)
            continue
        faults = list(differences(recorded.get(name, {}), found))
        print(
            f"{name}: {f'{len(faults)} of ' if faults else ''}{len(found)} "
            f"{'differ' if faults else 'as recorded'}",
            *faults,
            sep="\n  ",
            flush=True,
        )
        changed |= bool(faults)
    if arguments.record:
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    return int(changed)


if __name__ == "__main__":
    # Its subfolder tests/nasnet_zoo would stand in for the package.
    sys.path.pop(0)
    sys.exit(main())
