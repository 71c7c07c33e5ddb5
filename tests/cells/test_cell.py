import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cells, examples

from nasnet_zoo.cells import (
    CIFAR,
    NASNET_A,
    NASNET_B,
    NASNET_C,
    Block,
    Cell,
    CellGenotype,
    JoinStates,
    ScheduledDropPath,
    cell_graph,
    graph_cost,
)


def _inputs(cell, scales, channels, height, width):
    return [
        keras.Input((height and height * s, width and width * s, c))
        for s, c in zip(scales, channels, strict=True)
    ]


def _variables(layer):
    return [(w.name, tuple(w.shape)) for w in layer.weights]


def test_nasnet_a_concatenates_six_and_four_states():
    x = [np.zeros((1, 9, 8, 5), "float32"), np.zeros((1, 9, 8, 7), "float32")]
    assert Cell(NASNET_A.normal, 4)(x).shape == (1, 9, 8, 24)
    assert Cell(NASNET_A.reduction, 4, stride=2)(x).shape == (1, 5, 4, 16)
    # A concat block has twice the filters.
    assert Cell(NASNET_C.normal, 4)(x).shape == (1, 9, 8, 20)


def test_nasnet_b_makes_four_labelled_states():
    x = [np.zeros((1, 6 * s, 6 * s, 4), "float32") for s in (1, 2, 2, 4)]
    outputs = Cell(NASNET_B.reduction, 4, stride=2, scales=(1, 2, 2, 4))(x)
    assert [y.shape for y in outputs] == [(1, 3, 3, 4)] * 4


def test_the_first_cell_uses_the_raw_input_for_the_missing_state():
    graph = cell_graph(NASNET_A.normal, 4, 1, channels=[4], scales=[1])
    left_alone = next(node for node in graph.nodes if node.name == "block_3_left")
    assert left_alone.inputs == ("input_0",)
    squeezed = next(node for node in graph.nodes if node.name == "block_0_left")
    assert squeezed.inputs == ("state_0",)


def test_the_previous_state_is_adapted_only_where_it_differs():
    def first(channels, scale):
        graph = cell_graph(NASNET_A.normal, 4, 1, channels=[4, channels], scales=[1, scale])
        return [node.name for node in graph.nodes if node.name.startswith("state_1")]

    assert first(4, 1) == []
    assert first(8, 1) == ["state_1"]
    assert first(4, 2) == ["state_1_relu", "state_1_path_1", "state_1_path_2", "state_1"]


def test_a_factorized_reduction_samples_even_and_odd_pixels():
    join = JoinStates(scales=(1, 2))
    x = np.arange(1, 5 * 4 + 1, dtype="float32").reshape(1, 5, 4, 1)
    x = np.concatenate([x, x], -1)
    join.build([(1, 3, 2, 1), (1, 5, 4, 2)])
    for w in join.weights:
        if "kernel" in w.name:
            w.assign(np.array([[[[1.0], [0.0]]]]))
    y = np.array(join([np.zeros((1, 3, 2, 1), "float32"), x]))[0, :, :, 1:] * np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(y[..., 0], x[0, ::2, ::2, 0], rtol=1e-6)
    # The second path starts one pixel further down and right; zeros enter below.
    np.testing.assert_allclose(y[:2, :, 1], x[0, 1::2, 1::2, 0], rtol=1e-6)
    np.testing.assert_allclose(y[2, :, 1], 0)


def test_a_number_of_inputs_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match="Expected channels and scales of 4 inputs. Received: channels="
    ):
        Cell(NASNET_B.normal, 4)([np.zeros((1, 4, 4, 3), "float32")] * 2)
    with pytest.raises(ValueError, match=r"2 inputs \(or 1 in a first cell\)"):
        Cell(NASNET_A.normal, 4)([np.zeros((1, 4, 4, 3), "float32")] * 3)


def test_what_no_output_depends_on_has_no_weights():
    blocks = (Block((0, 0), ("conv_1x1", "conv_3x3")), Block((0, 0), ("sep_3x3", "identity")))
    graph = cell_graph(CellGenotype(blocks, outputs=(3,)), 4, 1, [4, 9], [1, 2])
    names = [node.name for node in graph.nodes]
    assert names == ["state_0", "block_1_left", "block_1"]


@examples(8)
@given(
    cell=st.one_of(cells(), cells(labelled=True)),
    stride=st.sampled_from([1, 2]),
    scale=st.sampled_from([1, 2]),
    filters=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_any_cell_trains_saves_and_loads(tmp_path_factory, cell, stride, scale, filters, seed):
    rng = np.random.default_rng(seed)
    scales = (1, scale, scale, scale * 2)[: cell.inputs]
    channels = rng.integers(1, 6, cell.inputs).tolist()
    keras.utils.set_random_seed(seed)
    inputs = _inputs(cell, scales, channels, 7, 6)
    drop_path = ScheduledDropPath(0.8, total_steps=10, version="v2")
    layer = Cell(cell, filters, stride, scales, hyperparameters=CIFAR, drop_path=drop_path)
    outputs = layer(inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    pooled = [keras.layers.GlobalAveragePooling2D()(y) for y in outputs]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([*pooled, pooled[0]])))
    assert all(y.shape[1:3] == (-(-7 // stride), -(-6 // stride)) for y in outputs)

    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = [rng.normal(size=(2, *i.shape[1:])).astype("float32") for i in inputs]
    assert np.isfinite(model.train_on_batch(x, rng.normal(size=(2, 3)).astype("float32")))
    assert all(np.all(np.isfinite(np.array(w))) for w in model.weights)

    path = tmp_path_factory.mktemp("cell") / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)

    cost = graph_cost(layer.graph, [tuple(i.shape[1:]) for i in inputs])
    assert cost.parameters == sum(int(np.prod(w.shape)) for w in layer.trainable_weights)


@examples(25)
@given(cell=st.one_of(cells(), cells(labelled=True)), stride=st.sampled_from([1, 2]))
def test_variables_do_not_depend_on_the_image_size(cell, stride):
    scales = (1, 2, 2, 4)[: cell.inputs]
    built = []
    for height, width in ((8, 8), (5, 9), (None, None)):
        layer = Cell(cell, 4, stride, scales)
        layer.build([(None, height and height * s, width and width * s, 3) for s in scales])
        built.append(_variables(layer))
    assert built[0] == built[1] == built[2]


def test_frozen_cells_keep_batch_norm_in_inference_mode():
    cell = Cell(NASNET_A.normal, 2, hyperparameters=CIFAR)
    x = [np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")] * 2
    inference = np.array(cell(x))
    assert np.abs(np.array(cell(x, training=True)) - inference).max() > 0.1
    statistics = [np.array(w) for w in cell.weights if "bn_mean" in w.name]
    assert any(np.any(s != 0) for s in statistics)
    cell.trainable = False
    np.testing.assert_array_equal(cell(x, training=True), cell(x))
    after = [np.array(w) for w in cell.weights if "bn_mean" in w.name]
    assert all(np.array_equal(a, b) for a, b in zip(statistics, after, strict=True))


def test_batch_norm_moves_its_statistics_by_the_decay():
    """The variance is the unbiased one, as in TF-Slim's fused batch norm."""
    cell = Cell(CellGenotype((Block((0, 0), ("max_3x3", "max_3x3")),)), 2, hyperparameters=CIFAR)
    x = np.abs(np.random.default_rng(0).normal(size=(4, 5, 5, 3))).astype("float32")
    cell([x])
    kernel, mean, variance = (
        next(w for w in cell.weights if w.name == f"state_0-{name}")
        for name in ("1-kernel", "2-bn_mean", "2-bn_variance")
    )
    z = x @ np.array(kernel)[0, 0]
    cell([x], training=True)
    np.testing.assert_allclose(mean, 0.1 * z.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * z.var((0, 1, 2), ddof=1), rtol=1e-4)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("genotype", [NASNET_A, NASNET_B], ids=["A", "B"])
def test_a_cell_computes_in_its_policy(policy, genotype):
    """In "bfloat16" the weights of norms are too, in "mixed_bfloat16" they are float32."""
    states = [keras.random.normal((2, 8, 8, 4)) for _ in range(genotype.normal.inputs)]
    cell = Cell(genotype.normal, filters=4, dtype=policy)
    for output in keras.tree.flatten(cell(states)):
        assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
        assert np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))).all()
