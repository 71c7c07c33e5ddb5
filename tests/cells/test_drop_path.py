import keras
import numpy as np
import pytest
from keras import layers

from nasnet_zoo.cells import (
    NASNET_A,
    Block,
    Cell,
    CellGenotype,
    DropPathSchedule,
    ScheduledDropPath,
    cell_graph,
)


def test_inference_is_the_identity_and_takes_no_step():
    layer = ScheduledDropPath(0.1, total_steps=1)
    layer.step.assign(1)
    x = np.random.default_rng(0).normal(size=(64, 3, 3, 2)).astype("float32")
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert int(layer.step) == 1


@pytest.mark.parametrize(
    ("version", "cell", "expected"),
    [
        # keep = 1 - (step / total) * (cell + 1) / cells * (1 - keep_final), by hand, at the steps
        # 0, 25, 100 and 200 of 100, with keep_final = 0.6 and 20 cells.
        ("v3", 19, (1.0, 0.9, 0.6, 0.6)),
        ("v3", 4, (1.0, 0.975, 0.9, 0.9)),
        ("v1", 4, (1.0, 0.9, 0.6, 0.6)),
        ("v2", 4, (0.9, 0.9, 0.9, 0.9)),
        ("v2", 19, (0.6, 0.6, 0.6, 0.6)),
        ("constant", 4, (0.6, 0.6, 0.6, 0.6)),
    ],
)
def test_the_schedule_is_the_papers(version, cell, expected):
    layer = ScheduledDropPath(0.6, total_steps=100, cell=cell, cells=20, version=version)
    for step, keep in zip((0, 25, 100, 200), expected, strict=True):
        layer.step.assign(step)
        assert float(layer.keep_probability()) == pytest.approx(keep, abs=1e-6)


def test_whole_samples_are_dropped_and_the_expectation_is_preserved():
    layer = ScheduledDropPath(0.7, total_steps=1, seed=3)
    layer.step.assign(1)
    samples = 20_000
    y = np.array(layer(np.ones((samples, 2, 2, 3), "float32"), training=True))
    kept = y[:, 0, 0, 0] > 0
    assert np.all(y == np.where(kept, np.float32(1 / 0.7), 0)[:, None, None, None])
    # Four standard deviations of the mean of a Bernoulli variable.
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.7 * 0.3 / samples)
    assert abs(y.mean() - 1) < 4 * np.sqrt(0.3 / 0.7 / samples)


def test_a_batch_can_share_its_draws():
    layer = ScheduledDropPath(0.6, total_steps=100, cell=4, cells=20, version="batch", seed=5)
    steps = [np.asarray(layer(np.ones((8, 2, 2, 3), "float32"), training=True)) for _ in range(400)]
    assert all(np.ptp(step) == 0 for step in steps)
    kept = [step.flat[0] for step in steps]
    np.testing.assert_allclose(sorted(set(kept)), [0, 1 / 0.6], rtol=1e-6)
    assert abs(np.mean(np.array(kept) > 0) - 0.6) < 4 * np.sqrt(0.6 * 0.4 / 400)


def test_a_cell_drops_its_paths_independently_but_never_identity():
    # The output concatenates three blocks; each is one max pool (a path) plus one identity.
    blocks = tuple(Block((1, 1), ("max_3x3", "identity")) for _ in range(3))
    cell = Cell(
        CellGenotype(blocks), 2, drop_path=ScheduledDropPath(0.5, total_steps=1, version="v2", seed=1)
    )
    x = np.full((2000, 1, 1, 2), 3.0, "float32")
    y = np.array(cell([x, x], training=True))[:, 0, 0, ::2]
    # Identity gives 3, the path 0 or 3 / keep = 6.
    assert set(np.unique(y)) == {3.0, 9.0}
    kept = y == 9
    correlation = np.corrcoef(kept.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 4 / np.sqrt(2000))


def test_every_operation_but_identity_is_a_path():
    graph = cell_graph(NASNET_A.normal, 8, 1, [8, 8], [1, 1])
    paths = [node.name for node in graph.nodes if node.drop_path]
    assert len(paths) == sum(
        operation != "identity" for block in NASNET_A.normal.blocks for operation in block.operations
    )


def _model(**options):
    cell = CellGenotype((Block((0, 1), ("sep_3x3", "conv_1x1")),))
    drop_path = ScheduledDropPath(0.6, **{"total_steps": 100} | options)
    inputs = keras.Input((4, 4, 2))
    outputs = layers.GlobalAveragePooling2D()(Cell(cell, 2, drop_path=drop_path)([inputs]))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    return model, model.layers[1].drop_path


def test_training_steps_are_counted_in_fit_and_restored_with_the_model(tmp_path):
    model, drop_path = _model()
    x, y = np.ones((12, 4, 4, 2), "float32"), np.zeros((12, 2), "float32")
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert int(drop_path.step) == 6
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    restored.fit(x, y, batch_size=4, epochs=1, verbose=0)
    restored_drop_path = restored.layers[1].drop_path
    assert (int(restored_drop_path.step), int(restored_drop_path.total_steps)) == (9, 100)


def test_the_callback_sets_the_length_of_the_schedule():
    model, drop_path = _model()
    x, y = np.ones((12, 4, 4, 2), "float32"), np.zeros((12, 2), "float32")
    model.fit(x, y, batch_size=4, epochs=5, verbose=0, callbacks=[DropPathSchedule()])
    assert (int(drop_path.step), int(drop_path.total_steps)) == (15, 15)
    assert float(drop_path.keep_probability()) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"keep_final": 0.0},
        {"keep_final": 1.1},
        {"total_steps": 0},
        {"cell": 3, "cells": 3},
        {"version": "v4"},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Expected .* Received: "):
        ScheduledDropPath(**{"keep_final": 0.5, "total_steps": 10} | arguments)
