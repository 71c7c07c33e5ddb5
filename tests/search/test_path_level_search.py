"""Searches for tree cells that grow from a layer: the weights of children, the command."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cells import GROUPED_CONV_3X3, TREECELL_A, TREECELL_B, TreeGenotype
from nasnet_zoo.cli import main
from nasnet_zoo.data import open_dataset
from nasnet_zoo.search import PathLevelBudget, PathLevelSettings, TreeCellSpace, Trial
from nasnet_zoo.search.images.child import network_inputs
from nasnet_zoo.search.images.search import search_images

pytestmark = pytest.mark.tensorflow

BASES = {"densenet": 8, "pyramidnet": 12}
_SPLIT = (
    '{"m": "concat", "a": "split", "e": [["gconv3", null], ["gconv3", {"m": null, "a": null, "e": '
    '[["identity", null]]}]]}'
)


def settings(base, tmp_path=None, **options):
    budget = PathLevelBudget(
        steps=4, batch_size=16, evaluations=2, base=base, cells=1, width=BASES[base], noise=0.0
    )
    path = None if tmp_path is None else str(tmp_path / "base.keras")
    return PathLevelSettings(budget=budget, base_weights=path, **options)


@pytest.fixture(scope="module")
def digits():
    return search_images(open_dataset("digits", None, 160).in_memory(), 0.2)


def trained(base, path):
    """A base whose batch norms and kernels are no longer the initial ones."""
    keras.utils.set_random_seed(0)
    model = zoo.TreeNet(GROUPED_CONV_3X3, base, 1, BASES[base], classes=10, input_shape=(8, 8, 1))
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name.endswith(("mean", "offset")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
        if weight.name.endswith(("variance", "scale")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    model.save(path)
    return model


def test_the_defaults_are_the_paper_s():
    defaults = PathLevelSettings()
    assert (defaults.policy, defaults.minibatch) == ("path-level", 10)
    assert defaults.reward == "tan(1.5707963 * accuracy)"
    budget = defaults.budget
    assert (budget.base, budget.cells, budget.width, budget.groups) == ("densenet", 2, 16, 2)
    assert (budget.learning_rate, budget.batch_size, 2 * budget.l2) == (0.035, 64, 1e-4)
    assert budget.noise == 6e-3
    assert budget.distillation == "inexact"
    assert defaults.start == GROUPED_CONV_3X3


@pytest.mark.parametrize("base", BASES)
def test_children_compute_what_their_base_does(base, digits, tmp_path):
    model = trained(base, tmp_path / "base.keras")
    evaluator = settings(base, tmp_path).make_child(digits)
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    expected = model(pixels, training=False)
    assert np.ptp(expected, axis=0).max() > 1e-3
    # Additions at the root whatever is below them; a concatenation of identities.
    for cell in (TREECELL_A, TREECELL_B, TreeGenotype.from_json(_SPLIT), GROUPED_CONV_3X3):
        training = evaluator.start(Trial(0, evaluator.prepare(cell), 7))
        logits, _ = training.child.logits(pixels, False)
        found = np.asarray(keras.ops.softmax(logits))
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=cell.name)


@pytest.mark.parametrize("base", BASES)
def test_every_cell_of_the_space_begins(base, digits, tmp_path):
    trained(base, tmp_path / "base.keras")
    evaluator = settings(base, tmp_path).make_child(digits)
    space, rng = TreeCellSpace(), np.random.default_rng(0)
    for seed in range(30):
        graph, cell, weights, _ = evaluator.prepare(space.decode(space.sample(rng)))
        first = evaluator.first(cell, weights, seed)
        shapes = [
            w
            for node, _, primitive, shape in graph.steps([(8, 8, 1)])
            for w in primitive.weights(shape[2], node.filters)
        ]
        for kind, trainable in (("weights", True), ("statistics", False)):
            size = sum(int(np.prod(w.shape)) for w in shapes if w.trainable == trainable)
            assert first[kind].shape == (size,)
            assert np.isfinite(first[kind]).all()


_POOLS = (
    '{"m": "concat", "a": "split", "e": [["gconv3", {"m": null, "a": null, "e": [["avg3", null]]}], '
    '["gconv3", {"m": null, "a": null, "e": [["sep3", null]]}]]}'
)


def test_a_child_that_is_not_exact_is_distilled_by_logits_alone(digits, tmp_path):
    pixels = network_inputs(digits.train_images)
    other_labels = dataclasses.replace(digits, train_labels=digits.train_labels[::-1].copy())

    def logits(distillation, cell, images=digits):
        chosen = settings("densenet")
        budget = dataclasses.replace(chosen.budget, distillation=distillation, steps=60)
        evaluator = dataclasses.replace(chosen, budget=budget).make_child(images, None, base)
        child = evaluator.prepare(cell)
        training = evaluator.start(Trial(0, child, 7))
        assert not training.child.momenta.numpy().any()
        return training.child.logits(pixels, False)[0].numpy()

    base = tmp_path / "base.npz"
    expected = logits("none", GROUPED_CONV_3X3)
    pools = TreeGenotype.from_json(_POOLS)
    apart = {kind: np.square(logits(kind, pools) - expected).mean() for kind in ("none", "inexact")}
    assert 0 < apart["inexact"] < 0.3 * apart["none"]
    assert apart["inexact"] < 0.3 * expected.var()
    np.testing.assert_array_equal(logits("inexact", pools), logits("inexact", pools, other_labels))
    np.testing.assert_array_equal(logits("inexact", pools), logits("all", pools))
    for exact in (TREECELL_A, TreeGenotype.from_json(_SPLIT)):
        np.testing.assert_array_equal(logits("inexact", exact), logits("none", exact))
    assert (logits("all", TREECELL_A) != logits("none", TREECELL_A)).any()


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_the_command_searches_and_goes_on(base, tmp_path, capsys):
    path, out = str(tmp_path / "base.keras"), str(tmp_path / "out")
    trained(base, path)
    search = [
        *("search", "--space", "path-level", "--data", "digits", "--images", "160", "--out", out),
        *("--base", base, "--base-weights", path, "--budget.cells", "1", "--budget.steps", "2"),
        *("--budget.width", str(BASES[base]), "--budget.evaluations", "1", "--minibatch", "2"),
        *("--executor", "serial"),
    ]
    assert main([*search, "--children", "2"]) == 0
    assert main([*search, "--children", "3"]) == 0
    noted = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (noted["space.kind"], noted["budget.base"]) == ("path-level", base)
    assert (tmp_path / "out" / "report.html").exists()
    assert {edge for edge, _ in zoo.TreeGenotype.load(f"{out}/best.json").root.edges} == {"gconv3"}
    other = [*search, "--out", f"{out}2", "--children", "2", "--budget.width", "16"]
    capsys.readouterr()
    assert main(other) == 1
    said = capsys.readouterr().err
    assert "base.keras: expected block" in said
    assert said.count("\n") == 1
