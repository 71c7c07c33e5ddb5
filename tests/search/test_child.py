import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR, OPERATIONS, Block, CellGenotype, Genotype
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.search import Budget, NASNetSpace, Trial
from nasnet_zoo.search.images.child import Child, FastChild, Images, network_inputs
from nasnet_zoo.search.images.exported import keras_model

pytestmark = pytest.mark.tensorflow

BUDGET = Budget(filters=4, stem_filters=4, steps=3, batch_size=8, learning_rate=1e-3, evaluations=1)


def all_operations():
    """A genotype with every operation and both combinations, in either cell."""
    names = sorted(OPERATIONS)
    blocks = tuple(
        Block((k % 2, (k + 1) % 2), (names[k], names[-1 - k]), ("add", "concat")[k % 2])
        for k in range((len(names) + 1) // 2)
    )
    cell = CellGenotype(blocks)
    return Genotype("all", cell, cell)


def genotypes(count):
    """Drawn from the whole space: the 13 operations, both combinations, five blocks a cell."""
    space = NASNetSpace()
    rng = np.random.default_rng(0)
    return [space.genotype(space.sample(rng)) for _ in range(count)]


def train(genotype, images, budget, **fields):
    evaluator = FastChild(images, budget)
    return evaluator.evaluate(Trial(0, evaluator.prepare(genotype), **{"seed": 0, **fields}))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The type of a network's numbers."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize(
    ("genotype", "steps"),
    [
        (all_operations(), 3),
        *(pytest.param(genotype, 10, marks=pytest.mark.slow) for genotype in genotypes(8)),
    ],
    ids=("all", *map(str, range(8))),
)
def test_a_child_follows_the_keras_model_of_the_same_weights(genotype, steps, dtype):
    """Eagerly: compiled, equal children drift apart by rounding alone."""
    # Rounding grows from step to step, the more so the fewer the bits.
    bound = 1e-6 if dtype == "float64" else 1e-4 if steps == 3 else 1e-3
    architecture = BUDGET.architecture(genotype, 8, 3)
    child = Child(network_graph(architecture, 5), (8, 8, 3), CIFAR, seed=1)
    for name in ("weights", "statistics", "momenta"):
        setattr(child, name, tf.Variable(tf.cast(getattr(child, name), dtype)))
    child._kernels = tf.cast(child._kernels, dtype)
    model = keras_model(architecture, 5, child.variables(), classifier_activation=None)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(-1, 1, (steps, 8, 8, 8, 3)), dtype)
    labels = tf.constant(rng.integers(0, 5, (steps, 8)), tf.int32)
    np.testing.assert_allclose(child.logits(images[0], False)[0], model(images[0]), atol=1e-5)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)
    kernels = [v for v in model.trainable_variables if "kernel" in v.name]
    for step in range(steps):
        with tf.GradientTape() as tape:
            logits = model(images[step], training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[step], logits)
            loss = tf.reduce_mean(losses)
            penalty = BUDGET.l2 * sum(tf.reduce_sum(v.value**2) for v in kernels)
            total = loss + penalty
        values = [variable.value for variable in model.trainable_variables]
        optimizer.apply(tape.gradient(total, values), model.trainable_variables)
        found = child.step(images[step], labels[step], tf.constant(1e-3, dtype), BUDGET)
        assert float(found) == pytest.approx(float(loss), abs=bound)
    far = 1e-5 if dtype == "float64" else 1e-3
    after, expected = child.logits(images[0], False)[0], model(images[0])
    np.testing.assert_allclose(after, expected, rtol=far, atol=far)


def quadrants(count, rng):
    """Images with one bright quarter, which is their class."""
    images = rng.normal(0, 0.2, (count, 8, 8, 1)).astype("float32")
    labels = rng.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 1
    return images, labels


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return Images(*quadrants(256, rng), *quadrants(100, rng), 4)


def test_a_network_reads_pixels_as_everything_else_does():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 64)
    expected = normalize(pixels).numpy()
    np.testing.assert_array_equal(network_inputs(pixels), expected)
    np.testing.assert_array_equal(tf.function(network_inputs)(tf.constant(pixels)), expected)
    np.testing.assert_array_equal(network_inputs(expected), expected)


def test_a_child_of_pixels_is_that_of_the_numbers_they_stand_for(images):
    """To the bit, though the numbers take four times the memory."""
    budget = Budget(filters=2, stem_filters=4, steps=12, batch_size=16, evaluations=2)
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 256, (count, 8, 8, 1), np.uint8) for count in (64, 50)]
    labels = images.train_labels[:64], images.held_out_labels[:50]
    numbers = [normalize(part).numpy() for part in pixels]
    found, expected = (
        train(genotypes(1)[0], Images(parts[0], labels[0], parts[1], labels[1], 4), budget, seed=2)
        for parts in (pixels, numbers)
    )
    assert found == expected


def test_a_child_learns_and_stops_below_a_threshold(images):
    budget = Budget(filters=2, stem_filters=4, steps=60, batch_size=16, evaluations=2)
    genotype = genotypes(1)[0]
    trained = train(genotype, images, budget, seed=3)
    assert trained.reward == trained.curve[-1] >= 0.9
    losses = trained.metrics["losses"]
    assert losses[1] < losses[0]
    assert (len(trained.curve), trained.status) == (2, "finished")
    stopped = train(genotype, images, budget, seed=3, thresholds=(1.01,))
    assert (len(stopped.curve), stopped.status) == (1, "stopped")
    assert stopped.metrics["losses"] == pytest.approx(losses[:1], rel=1e-3)


def test_a_child_that_pauses_and_goes_on_is_the_one_that_never_paused_to_the_bit(images):
    genotype = genotypes(1)[0]
    budget = Budget(filters=2, stem_filters=2, steps=9, batch_size=8, evaluations=4)
    evaluator = FastChild(images, budget)
    assert evaluator.evaluations == 4
    whole = train(genotype, images, budget)
    assert (whole.status, len(whole.curve), whole.checkpoint) == ("finished", 4, None)
    checkpoint = None
    for pause_at in (1, 3):
        paused = train(genotype, images, budget, pause_at=pause_at, checkpoint=checkpoint)
        assert (paused.status, paused.curve) == ("stopped", whole.curve[:pause_at])
        assert paused.reward == paused.curve[-1]
        checkpoint = pickle.loads(pickle.dumps(paused.checkpoint))
    rest = train(genotype, images, budget, checkpoint=checkpoint)
    assert rest == whole
    assert rest.metrics["losses"] == whole.metrics["losses"]
    # The arrays are what it goes on from, and all of it: momenta, statistics and what was seen.
    changed = checkpoint | {"momenta": 0 * checkpoint["momenta"]}
    assert train(genotype, images, budget, checkpoint=changed) != whole
    assert train(genotype, images, budget, checkpoint=checkpoint | {"curve": np.zeros(3)}).curve == (
        *(0.0, 0.0, 0.0),
        whole.curve[-1],
    )


@pytest.mark.parametrize("change", [{"weights": np.zeros(3)}, {"momenta": None}])
def test_a_checkpoint_that_is_not_the_childs_is_none(images, change):
    budget = Budget(filters=2, stem_filters=2, steps=2, batch_size=8, evaluations=2)
    genotype = genotypes(1)[0]
    paused = train(genotype, images, budget, pause_at=1)
    checkpoint = {n: a for n, a in (paused.checkpoint | change).items() if a is not None}
    expected = train(genotype, images, budget)
    assert train(genotype, images, budget, checkpoint=checkpoint) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (name, 0)
            for name in ("cells", "filters", "stem_filters", "steps", "batch_size", "evaluations")
        ],
        *[("filters", 2.0), ("steps", True), ("learning_rate", 0.0), ("learning_rate", np.nan)],
        *[("learning_rate", np.inf), ("momentum", 1.0), ("momentum", -0.1), ("l2", -1e-4)],
        *[("l2", np.inf), ("clip_norm", 0.0), ("clip_norm", np.nan), ("evaluations", 301)],
    ],
)
def test_a_budget_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=f"Expected {field}: .* Received: {field}={value}"):
        Budget(**{field: value})


def test_a_diverging_child_fails_with_no_reward(images):
    budget = Budget(filters=2, stem_filters=2, steps=6, batch_size=8, evaluations=2, learning_rate=1e30)
    trained = train(genotypes(1)[0], images, budget)
    assert (trained.status, trained.message, trained.reward) == ("failed", "diverged", 0.0)
