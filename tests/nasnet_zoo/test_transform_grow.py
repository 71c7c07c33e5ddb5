"""Plain networks and DenseNets grow by transformations and compute the same."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import HYPERPARAMETERS, images, settled
from strategies import examples

import nasnet_zoo as zoo
from nasnet_zoo.cells.chain import origins, read_blocks
from nasnet_zoo.network import architecture_of
from nasnet_zoo.search import EASSpace
from nasnet_zoo.transform import copy_miniblock, grow, net2deeper, net2wider

X = images(4, (16, 16))
PLAIN = EASSpace("conv-4-3_pool_conv-4-3_conv-8-3_pool_fc-8")
DENSE = EASSpace("g4_g4_t_g4_g6", wider=10)


@pytest.fixture(scope="module", params=[PLAIN, DENSE], ids=["plain", "densenet"])
def started(request):
    keras.utils.set_random_seed(0)
    shape = {"input_shape": (16, 16, 3), "hyperparameters": HYPERPARAMETERS}
    model = zoo.ChainNet(request.param.start, classes=5, name="start", **shape)
    return request.param, settled(model, (16, 16))


def genotype_of(model):
    blocks = [part.block for part in architecture_of(model).plan().parts]
    return read_blocks("child", blocks)


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 6))])
def test_children_of_a_start_network_compute_the_same(started, seed):
    space, model = started
    child = space.decode(space.sample(np.random.default_rng(seed)))
    grown = grow(model, child, seed=seed)
    assert genotype_of(grown) == child
    np.testing.assert_allclose(grown(X, training=False), model(X, training=False), atol=1e-5)
    assert [w.shape for w in grown.weights] == [w.shape for w in fresh(model, child).weights]


def fresh(model, child):
    architecture = architecture_of(model)
    architecture = zoo.ChainArchitecture(child, channels=architecture.channels)
    with keras.StatelessScope(initialize_variables=False):
        return zoo.models.from_architecture(architecture, classes=5, input_shape=(16, 16, 3))


@pytest.mark.slow
def test_a_grown_network_trains_saves_and_loads(started, tmp_path):
    space, model = started
    grown = grow(model, space.decode(space.sample(np.random.default_rng(5))), seed=0)
    grown.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    before = grown.get_weights()
    assert np.isfinite(grown.train_on_batch(X, np.arange(4)))
    assert all((a != b).any() for a, b in zip(before, grown.get_weights(), strict=True) if a.ndim > 1)
    expected = np.asarray(grown(X, training=False))
    grown.save(tmp_path / "grown.keras")
    loaded = keras.models.load_model(tmp_path / "grown.keras")
    np.testing.assert_allclose(loaded(X, training=False), expected, atol=1e-6)


def test_each_transformation_by_itself_computes_the_same(started):
    space, model = started
    expected = np.asarray(model(X, training=False))
    if space.dense:
        steps = [net2wider(model, name, 12, seed=0) for name in ("Block_2", "Stem_Conv")]
        steps += [
            net2wider(model, "Transition_1", 20, seed=0),
            copy_miniblock(model, "Block_1", seed=0),
        ]
    else:
        steps = [net2wider(model, name, 12, seed=0) for name in ("Conv_1", "Conv_3", "Fc_1")]
        steps += [net2deeper(model, "Conv_2", kernel_size=k) for k in (1, 2, 5)]
        steps += [net2deeper(model, "Fc_1"), net2deeper(model, "Conv_1", images=X)]
    for grown in steps:
        assert grown.count_params() > model.count_params()
        np.testing.assert_allclose(grown(X, training=False), expected, atol=1e-5)


def test_a_new_batch_norm_has_the_statistics_of_images():
    keras.utils.set_random_seed(1)
    model = zoo.ChainNet(PLAIN.start, classes=5, input_shape=(16, 16, 3))
    grown = net2deeper(model, "Conv_1", images=X)
    inside = keras.Model(model.inputs[0], model.get_layer("Conv_1").output)
    values = np.asarray(inside(X, training=False))
    found = {weight.name: np.array(weight) for weight in grown.get_layer("Conv_1_deeper").weights}
    np.testing.assert_allclose(found["sequence-1-bn_mean"], values.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["sequence-1-bn_variance"], values.var((0, 1, 2)), rtol=1e-4)
    # So it computes nearly the same in training, too, where without images it does not.
    bare = net2deeper(model, "Conv_1")
    errors = [
        np.abs(np.asarray(other.get_layer("Conv_1_deeper")([values], training=True)) - values).max()
        for other in (grown, bare)
    ]
    assert errors[0] < 1e-3 < 1e-2 < errors[1]


def test_noise_changes_what_is_computed_a_little(started):
    space, model = started
    child = space.decode(space.sample(np.random.default_rng(0)))
    noisy = grow(model, child, wider_noise=1e-2, deeper_noise=1e-3, seed=0)
    difference = np.abs(np.asarray(noisy(X, training=False)) - np.asarray(model(X, training=False)))
    assert 1e-5 < difference.max() < 0.2


@examples(40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([PLAIN, DENSE]))
def test_the_origins_of_every_child_s_layers_are_found(seed, space):
    child = space.decode(space.sample(np.random.default_rng(seed)))
    found = origins(space.start, child)
    assert sorted(set(found)) == list(range(len(space.start.layers)))
    assert list(found) == sorted(found)
    for k, source in enumerate(found):
        old, new = space.start.layers[source], child.layers[k]
        assert old.kind == new.kind
        if k and found[k - 1] == source:
            assert new.units == child.layers[k - 1].units
        else:
            assert (new.kernel, new.units >= old.units) == (old.kernel, True)


@pytest.mark.parametrize(
    ("base", "grown", "found"),
    [
        ("conv-4-3_conv-4-3_pool", "conv-4-3_conv-4-3_conv-8-3_pool", (0, 0, 1, 2)),
        ("conv-4-3_conv-4-3_pool", "conv-4-3_conv-4-5_conv-4-3_pool", (0, 0, 1, 2)),
        ("conv-4-3_pool", "conv-8-3_conv-8-1_conv-8-1_pool", (0, 0, 0, 1)),
        ("conv-4-3_pool", "conv-8-3_conv-12-3_pool", None),
        ("conv-4-3_pool", "conv-4-5_pool", None),
        ("conv-8-3_pool", "conv-4-3_pool", None),
        ("conv-4-3_pool", "conv-4-3_pool_fc-8", None),
        ("conv-4-3_pool", "g4", None),
    ],
)
def test_where_layers_come_from(base, grown, found):
    one, other = (zoo.ChainGenotype.from_dict({"chain": text}) for text in (base, grown))
    if found is None:
        with pytest.raises(ValueError, match=f"grows from {base}. Received: {grown}"):
            origins(one, other)
    else:
        assert origins(one, other) == found


def test_what_cannot_grow_is_refused(started):
    _, model = started
    narrow = zoo.DenseNetGenotype("narrow", DENSE.start.layers, 1)
    with pytest.raises(ValueError, match="Expected a network that grows from g4_g4_t_g4_g6"):
        origins(DENSE.start, narrow)
    with pytest.raises(ValueError, match="'Pool_1|Transition_1|Head' of class BlockLayer, which "):
        net2deeper(model, model.layers[2].name if model.layers[1].name == "Conv_1" else "Head")
    other = zoo.TreeNet(zoo.TREECELL_B, cells=1, width=6, classes=3, input_shape=(16, 16, 3))
    with pytest.raises(ValueError, match="Expected a model of a chain of layers. Received: 'treenet'"):
        grow(other, PLAIN.start)
