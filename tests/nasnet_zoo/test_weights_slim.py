"""TF-Slim checkpoints: the predictions of TF-Slim's network, written anew in `slim_reference`."""

import numpy as np
import pytest
from weights_helpers import assert_same, images, run, tiny

import nasnet_zoo as zoo
from nasnet_zoo.weights import load_weights

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def reference():
    """Of the kind of Large (but small): its images, its network and the logits of both heads."""
    from slim_reference import SlimNASNet

    slim = SlimNASNet(cells=1, filters=8, stem_filters=12, skip=True)
    x = images(224, 224)
    return x, slim, slim(x)


@pytest.fixture
def checkpoint(reference, tmp_path):
    from slim_reference import write_checkpoint

    return write_checkpoint(tmp_path / "model.ckpt", reference[1].variables)


def ours(**arguments):
    return tiny(stem_filters=12, image_size=224, skip_reduction_layer_input=True, **arguments)


@pytest.fixture(scope="module")
def plain():
    """A model to load into; every load changes all of its network or nothing."""
    return ours()


def softmax(logits):
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_mobile_equals_slim(tmp_path, recwarn):
    from slim_reference import SlimNASNet, write_checkpoint

    slim = SlimNASNet(cells=4, filters=44, stem_filters=32, skip=False)
    x = images(224, 224)
    expected = slim(x)
    path = write_checkpoint(tmp_path / "model.ckpt", slim.variables)
    model = zoo.NASNetMobile(weights=path, auxiliary_head=True, classifier_activation=None)
    assert model.count_params() == sum(v.size for v in slim.variables.values()) - (1056 + 1 + 768 + 1)
    assert not [w for w in recwarn if "weights" in str(w.message)]
    for logits, reference in zip(run(model, x), expected, strict=True):
        assert_same(logits, reference[:, 1:])
        np.testing.assert_allclose(softmax(logits), softmax(reference[:, 1:]), rtol=0, atol=1e-5)


def test_background_dropped(reference, checkpoint):
    x, _, expected = reference
    model = ours(auxiliary_head=True)
    report = load_weights(model, checkpoint)
    assert not report.missing
    assert not report.unused
    for probabilities, logits in zip(run(model, x), expected, strict=True):
        assert_same(probabilities, softmax(logits[:, 1:]))


def test_background_kept(reference, checkpoint):
    x, _, expected = reference
    model = ours(classes=1001, weights=f"{checkpoint}.index", background="keep")
    assert_same(run(model, x), softmax(expected[0]))


def test_a_choice_that_does_not_fit_the_classes(plain, checkpoint):
    report = load_weights(plain, checkpoint, background="keep")
    assert report.missing["predictions/bias"] == "1001 classes in the source, 1000 in the model"
    report = load_weights(ours(classes=1001), checkpoint)
    assert report.missing["predictions/bias"] == "1000 classes in the source, 1001 in the model"


def test_moving_averages_are_preferred(reference, tmp_path):
    """Batch norm's statistics need have none; a training run's own variables are passed over."""
    from slim_reference import write_checkpoint

    x, slim, expected = reference
    variables = {"global_step": np.int64(7), "cell_stem_0/comb_iter_0/left/global_step": np.int64(7)}
    for name, value in slim.variables.items():
        if "moving_" in name:
            variables[name] = value
        else:
            variables[name] = value + 1
            variables[f"{name}/ExponentialMovingAverage"] = value
            variables[f"{name}/RMSProp"] = variables[f"{name}/RMSProp_1"] = value
    model = ours(classifier_activation=None)
    report = load_weights(model, write_checkpoint(tmp_path / "model.ckpt", variables))
    assert {name.split("/")[0] for name in report.unused} == {"aux_1"}
    assert not report.unexpected
    assert_same(run(model, x), expected[0][:, 1:])


def test_without_an_auxiliary_head(reference, tmp_path):
    from slim_reference import write_checkpoint

    kept = {name: v for name, v in reference[1].variables.items() if not name.startswith("aux_")}
    path = write_checkpoint(tmp_path / "model.ckpt", kept)
    report = load_weights(ours(auxiliary_head=True), path)
    assert len(report.missing) == 12
    assert {name.split("/")[0] for name in report.missing} == {"auxiliary"}


def test_missing_other_shapes_and_unused(plain, reference, tmp_path):
    from slim_reference import write_checkpoint

    variables = dict(reference[1].variables)
    del variables["cell_0/beginning_bn/gamma"]
    variables["cell_1/1x1/weights"] = np.zeros((1, 1, 2, 2), "float32")
    with pytest.raises(
        ValueError, match="cell_1/1x1/weights of shape .*missing weights: cell_0/beginning"
    ):
        load_weights(plain, write_checkpoint(tmp_path / "model.ckpt", variables))

    variables = {**reference[1].variables, "cell_9/1x1/weights": np.zeros(1, "float32")}
    report = load_weights(plain, write_checkpoint(tmp_path / "more.ckpt", variables))
    assert report.unexpected == ("cell_9/1x1/weights",)


def test_a_damaged_checkpoint(plain, tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="expected a TensorFlow checkpoint"):
        load_weights(plain, tmp_path / "model.ckpt")
