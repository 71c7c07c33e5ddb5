"""Searches for layer-wise networks: the children, the command, its folder and its files."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import examples, layerwise_genotypes

import nasnet_zoo as zoo
from nasnet_zoo.cells import CIFAR, LayerGenotype, LayerwiseGenotype
from nasnet_zoo.cli import main
from nasnet_zoo.search import Trial
from nasnet_zoo.search.images.child import Child, FastChild, Images
from nasnet_zoo.search.images.exported import keras_model
from nasnet_zoo.search.nas.layerwise_settings import LayerwiseBudget, LayerwiseSettings
from nasnet_zoo.search.nas.layerwise_space import LayerwiseSpace

pytestmark = pytest.mark.tensorflow

BUDGET = LayerwiseBudget(steps=12, batch_size=16, evaluations=4, best_of=3)


def images(count=64):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=count).astype(np.int32)
    # Class k is bright in column k.
    bright = (np.arange(6) == labels[:, None])[:, None, :, None]
    pixels = (rng.integers(0, 60, (count, 6, 6, 1)) + 190 * bright).astype(np.uint8)
    return Images(pixels[16:], labels[16:], pixels[:16], labels[:16], 3)


def test_the_defaults_are_the_paper_s():
    settings = LayerwiseSettings()
    assert (settings.policy, settings.reward, settings.minibatch) == ("nas", "accuracy ** 3", 8)
    budget = settings.budget
    assert (budget.learning_rate, budget.momentum, budget.batch_size) == (0.1, 0.9, 64)
    assert 2 * budget.l2 == 1e-4
    assert (budget.schedule, budget.best_of) == ("steps", 5)
    space = settings.space
    assert (space.layers, space.grow_by, space.grow_every) == (6, 2, 1600)
    assert space.heights == space.widths == (1, 3, 5, 7)
    assert space.filters == (24, 36, 48, 64)


def test_the_accuracy_is_the_best_of_the_last_evaluations():
    data = images()
    genotype = LayerwiseSpace(2, filters=(4,)).decode((1, 1, 0, 1, 1, 1, 0))
    child = FastChild(data, BUDGET)
    result = child.evaluate(Trial(0, child.prepare(genotype), 3))
    assert len(result.curve) == 4
    assert result.reward == max(result.curve[-3:])
    last = FastChild(data, LayerwiseBudget(steps=12, batch_size=16, evaluations=4, best_of=1))
    assert last.evaluate(Trial(0, last.prepare(genotype), 3)).reward == result.curve[-1]
    assert result.metrics["losses"][-1] < result.metrics["losses"][0]


def test_the_learning_rate_falls_after_half_and_three_quarters_of_the_steps():
    from nasnet_zoo.search.images.child import SCHEDULES

    rates = [float(SCHEDULES["steps"](np.float32(k / 12))) for k in range(12)]
    assert rates == pytest.approx([1.0] * 6 + [0.1] * 3 + [0.01] * 3)


@pytest.mark.parametrize(
    "fields", [{"best_of": 11}, {"best_of": 0}, {"schedule": "linear"}, {"steps": 3}], ids=str
)
def test_a_budget_out_of_range_is_refused(fields):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        LayerwiseBudget(**fields)


@examples(4)
@given(genotype=layerwise_genotypes(layers=4), seed=st.integers(0, 100))
@example(
    genotype=LayerwiseGenotype("no statistics", (LayerGenotype((1, 1), 0, kind="max_pool"),)), seed=0
)
def test_a_fast_child_is_the_keras_model_with_its_weights(genotype, seed):
    data = images(32)
    child = FastChild(data, BUDGET)
    architecture = child.architecture(genotype)
    fast = Child(child.prepare(genotype), (6, 6, 1), CIFAR, seed)
    pixels = np.random.default_rng(seed).uniform(-1, 1, (3, 6, 6, 1)).astype(np.float32)
    model = keras_model(architecture, 3, fast.variables(), classifier_activation=None)
    np.testing.assert_allclose(model(pixels), fast.logits(pixels, False)[0], rtol=1e-4, atol=1e-5)
    result = child.evaluate(Trial(0, child.prepare(genotype), seed))
    assert result.status == "finished"
    assert np.isfinite(result.metrics["losses"]).all()


SEARCH = (
    *("search", "--space", "nas-conv", "--data", "digits", "--images", "160", "--children", "3"),
    *(
        "--space.layers",
        "2",
        "--space.filters",
        "4",
        "--budget.steps",
        "6",
        "--budget.evaluations",
        "2",
    ),
    *("--budget.best-of", "1", "--minibatch", "3", "--executor", "serial"),
)


def test_the_command_searches_goes_on_and_shows_networks(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main([*SEARCH, "--out", out]) == 0
    best = LayerwiseGenotype.load(f"{out}/best.json")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "concatenated. Convolutions are yellow" in report
    assert "loose ends" in report
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["space.kind"] == "nas-conv"
    more = [*SEARCH, "--out", out, "--children", "4"]
    assert main(more) == 0
    capsys.readouterr()
    assert main(["search", "best", out]) == 0
    shown = capsys.readouterr().out
    assert f"1: {'×'.join(map(str, best.layers[0].kernel))} conv, 4 <- image" in shown
    assert main(["search", "show", out, "3", "--picture", f"{tmp_path}/3.svg"]) == 0
    assert "classifier" in (tmp_path / "3.svg").read_text()
    assert zoo.NAS(f"{out}/best.json", classes=10).count_params() > 0
    assert main([*more, "--space.layers", "3"]) == 1
    assert "space.layers=2" in capsys.readouterr().err


@pytest.mark.slow
def test_networks_are_exported_and_compared_with_published_ones(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*SEARCH, "--out", str(out), "--export-front", "--references"]) == 0
    assert list((out / "front").glob("*.tflite"))
    report = (out / "report.html").read_text()
    assert all(name in report for name in ("NAS v1", "NAS v1 (chain)", "random 5"))


def test_the_latency_of_networks_for_imagenet_is_refused(tmp_path, capsys):
    latency = ["--latency", "litert", "--latency-target", "4@1056"]
    assert main([*SEARCH, "--out", str(tmp_path / "out"), *latency]) == 1
    assert "Expected latency_target=child for children without cells" in capsys.readouterr().err
