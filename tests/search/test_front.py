import json
import re

import numpy as np
import pytest

from nasnet_zoo.data import open_dataset
from nasnet_zoo.export import load_runtime
from nasnet_zoo.search.front import front, front_costs
from nasnet_zoo.search.images.child import network_inputs
from nasnet_zoo.search.images.search import search_images
from nasnet_zoo.search.images.settings import LatencySettings
from nasnet_zoo.search.journal import Journal, Record
from nasnet_zoo.search.nasnet.search import search_cells
from nasnet_zoo.search.nasnet.settings import Budget, Settings
from nasnet_zoo.search.nasnet.space import NASNetSpace
from nasnet_zoo.search.settings import ExecutorSettings

pytestmark = pytest.mark.tensorflow


def child(number, reward, state="finished", same_as=None, metrics=None, **costs):
    return Record(
        number=number,
        actions=(),
        key=str(same_as if same_as is not None else number),
        architecture={},
        version=0,
        seed=0,
        costs=costs,
        state=state,
        reward=reward,
        same_as=same_as,
        metrics=metrics or {},
    )


CHILDREN = [
    child(0, 0.9, size=5, latency=3.0),
    child(1, 0.8, size=4, latency=3.5),
    child(2, 0.8, size=5, latency=2.0),
    child(3, 0.7, size=1, latency=9.0),
    child(4, 0.95, "stopped", size=1, latency=1.0),
    child(5, 0.0, "failed", size=1),
    child(6, 0.9, same_as=0, size=5, latency=3.0),
    child(7, 0.5, size=1, latency=9.5),
]


@pytest.mark.parametrize(
    ("costs", "numbers"),
    [(("size",), [0, 1, 3]), (("latency",), [0, 2]), (("size", "latency"), [0, 1, 2, 3])],
)
def test_the_front_is_of_different_children_that_finished(costs, numbers):
    assert [record.number for record in front(CHILDREN, "accuracy", costs)] == numbers


def test_the_front_is_of_the_accuracy_where_the_reward_is_an_expression():
    best = child(0, 0.1, metrics={"accuracy": 0.9}, size=2)
    worse = child(1, 0.2, metrics={"accuracy": 0.8}, size=3)
    assert front([worse, best], "accuracy", ("size",)) == [best]


@pytest.mark.parametrize(
    ("settings", "costs"),
    [
        ({}, ("latency",)),
        ({"reward": "accuracy - size / 10"}, ("size",)),
        ({"reward": "accuracy * latency ** -0.07 / size"}, ("latency", "size")),
        ({"objectives": ["size", "accuracy"], "reward": "accuracy / latency"}, ("size",)),
        ({"reward": "accuracy ** 3"}, ("latency",)),
    ],
)
def test_what_a_search_trades_its_accuracy_for(settings, costs):
    assert front_costs(settings, CHILDREN) == costs
    assert front_costs({}, [child(0, 0.5, size=1, depth=2)]) == ("size", "depth")


SETTINGS = Settings(
    policy="random",
    reward="accuracy - mult_adds / 100M",
    space=NASNetSpace(blocks=1, operations=("identity", "sep_3x3", "conv_1x1"), cells=2),
    budget=Budget(filters=4, stem_filters=4, steps=20, batch_size=32, evaluations=1),
    minibatch=4,
    images=400,
    image_size=8,
)


@pytest.mark.slow
def test_the_front_is_exported_and_references_stand_beside_it(tmp_path, capfd):
    out = tmp_path / "out"
    options = {
        "latency": LatencySettings("onnx"),
        "executor": ExecutorSettings(processes=1),
        "references": True,
        "export_front": True,
    }
    search_cells("digits", out, SETTINGS, 8, **options)
    with Journal(out / "journal.sqlite") as journal:
        records = journal.children()
    best = front(records, "accuracy", ("mult_adds",))
    assert best
    images = search_images(open_dataset("digits", 8, 400).in_memory(), SETTINGS.held_out)
    html = (out / "report.html").read_text()
    for record in best:
        path = out / "front" / f"child-{record.number}.onnx"
        runtime = load_runtime(path)
        found = runtime.predict(network_inputs(images.held_out_images))
        accuracy = np.mean(found.argmax(-1) == images.held_out_labels)
        assert accuracy == pytest.approx(record.metrics["accuracy"], abs=1e-9)
        assert f'<a href="front/{path.name}">' in html
    names = {
        report["path"].split("/")[-1]
        for report in json.loads((out / "front/benchmark.json").read_text())
    }
    assert names == {f"child-{record.number}.onnx" for record in best}
    shown = capfd.readouterr().out
    assert all(name in shown for name in names)
    with Journal(out / "references.sqlite") as journal:
        references = {record.key: record for record in journal.children()}
    assert list(references) == ["NASNet-A", "AmoebaNet-A", *(f"random {k}" for k in range(1, 6))]
    for name, record in references.items():
        assert {"parameters", "mult_adds", "latency"} <= record.costs.keys()
        accuracy = record.metrics["accuracy"]
        assert re.search(rf"<td[^>]*>{name}</td>\s*<td[^>]*>{accuracy:.4f}</td>", html)
    # What is under the pointer shows the cell.
    operations = records[best[0].number].architecture["normal"]["blocks"][0]["operations"]
    assert re.search(rf"{best[0].name}: .*\nnormal cell: 2 = add\({operations[0]} of", html)

    times = {path: path.stat().st_mtime_ns for path in (out / "front").glob("*.onnx")}
    search_cells("digits", out, SETTINGS, 8, **options)
    assert {path: path.stat().st_mtime_ns for path in (out / "front").glob("*.onnx")} == times


def test_references_are_not_evaluated_with_shared_weights(tmp_path):
    settings = Settings(shared_steps=1, images=200)
    with pytest.raises(ValueError, match="Expected references without shared_steps"):
        search_cells("digits", tmp_path / "out", settings, 2, references=True)
    assert not (tmp_path / "out").exists()
