"""timm's ``nasnetalarge``: its names and shapes, and the same predictions.

timm_nasnetalarge.txt lists the state dict of ``timm.create_model("nasnetalarge")`` of timm 1.0.31,
one name and shape a line.
"""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from weights_helpers import assert_same, images, run, tiny

import nasnet_zoo as zoo
from nasnet_zoo.weights import load_weights
from nasnet_zoo.weights.mapping import by_table, targets
from nasnet_zoo.weights.slim import cell_scope
from nasnet_zoo.weights.timm import BATCH_NORM, TABLE, our_shape

STATE_DICT = Path(__file__).with_name("timm_nasnetalarge.txt")
name_of = by_table(TABLE, BATCH_NORM, cell_scope)


def published_shapes():
    rows = (line.split(" ") for line in STATE_DICT.read_text().splitlines())
    return {name: tuple(map(int, filter(None, shape.split("x")))) for name, shape in rows}


def test_every_name_and_shape_is_timms():
    # Shapes are all that is asked of this model: no need to fill 89 million weights.
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.NASNetLarge()
    theirs = published_shapes()
    found = {name_of(target): tuple(target.variable.shape) for target in targets(model)}
    wanted = {
        name: our_shape(name, shape)
        for name, shape in theirs.items()
        if not name.endswith(".num_batches_tracked")
    }
    assert found == wanted


def like_large(cells=1, **arguments):
    return tiny(cells, skip_reduction_layer_input=True, **arguments)


def their_layout(name, value):
    if ".depthwise_conv2d." in name:
        return np.moveaxis(value, (0, 1), (2, 3))
    return np.moveaxis(value, (2, 3), (1, 0)) if value.ndim == 4 else value.T


@pytest.fixture(scope="module")
def state_dict():
    """A model of ours and its weights as timm would hold them."""
    model = like_large(classes=1001)
    rng = np.random.default_rng(0)
    values = {}
    for target in targets(model):
        if "bn_" in target.name or "bias" in target.name:
            target.variable.assign(rng.uniform(0.5, 1.5, target.variable.shape))
        value = their_layout(name_of(target), np.array(target.variable))
        values[name_of(target)] = np.ascontiguousarray(value)
    values["conv0.bn.num_batches_tracked"] = np.array(3)
    return model, values


@pytest.fixture
def safetensors():
    return pytest.importorskip("safetensors.numpy", reason="needs safetensors")


@pytest.mark.tensorflow
def test_a_safetensors_file(safetensors, state_dict, tmp_path):
    model, values = state_dict
    path = tmp_path / "model.safetensors"
    safetensors.save_file(values, path)
    kept = like_large(classes=1001)
    report = load_weights(kept, path, background="keep")
    assert not report.missing
    assert not report.unused
    for a, b in zip(model.weights, kept.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    report = load_weights(like_large(auxiliary_head=True, image_size=224), path)
    assert {name.split("/")[0] for name in report.missing} == {"auxiliary"}

    variance = values["conv0.bn.running_var"]
    for wrong, message in (
        (variance * np.nan, "Received: NaN in conv0.bn.running_var"),
        (-variance, "Received: the variance -.* in conv0.bn.running_var"),
        (variance.astype("int32"), "Received: conv0.bn.running_var of type I32"),
    ):
        safetensors.save_file({**values, "conv0.bn.running_var": wrong}, path)
        with pytest.raises(ValueError, match=message):
            load_weights(kept, path)
    half = {**values, "conv0.bn.running_var": variance.astype("float16")}
    safetensors.save_file(half, path)
    load_weights(kept, path)

    del values["cell_2.conv_1x1.bn.running_mean"]
    values["last_linear.bias"] = np.zeros(4)
    safetensors.save_file(values, path)
    with pytest.raises(ValueError, match="missing weights: cell_2.conv_1x1.bn.running_mean"):
        load_weights(kept, path)

    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load_weights(kept, path)


def average_without_padding(self, x):
    """What timm's strided average pool is asked for by ``count_include_pad=False``."""
    import torch
    from timm.layers.padding import pad_same

    def pool(x):
        return torch.nn.functional.avg_pool2d(
            pad_same(x, self.kernel_size, self.stride), self.kernel_size, self.stride
        )

    return pool(x) / pool(torch.ones_like(x))


def timms_reduction():
    """Our reduction cell with zeros counted by the strided average pool, as timm computes it."""
    reduction = zoo.NASNET_A.reduction.replace_operations({"avg_3x3": "zero_avg_3x3"}, range(2))
    return dataclasses.replace(zoo.NASNET_A, reduction=reduction)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filters", "size"), [(8, (331, 331)), (8, (160, 203)), (168, (331, 331))], ids=str
)
@pytest.mark.parametrize("pools", ["trained", "timm"])
def test_predictions_equal_timms(tmp_path, monkeypatch, filters, size, pools):
    """With timm's one slip mended, ours by default; as timm is, ours with the same slip.

    timm pads the input of its stride-2 average pools with zeros before it pools without padding, so
    ``count_include_pad=False`` comes too late: zeros are counted, which TF-Slim does not do.
    """
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    nasnet = pytest.importorskip("timm.models.nasnet", reason="needs timm", exc_type=ImportError)
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    if pools == "trained":
        from timm.layers.pool2d_same import AvgPool2dSame

        monkeypatch.setattr(AvgPool2dSame, "forward", average_without_padding)
    torch.manual_seed(0)
    stem_filters = 96 if filters == 168 else 8
    theirs = nasnet.NASNetALarge(stem_size=stem_filters, num_features=24 * filters).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    x = images(*size, count=1 if filters == 168 else 2)
    with torch.inference_mode():
        features = theirs.forward_features(torch.from_numpy(x.transpose(0, 3, 1, 2)))
        expected = theirs.forward_head(features).numpy()
        features = features.numpy().transpose(0, 2, 3, 1)
    path = tmp_path / "model.safetensors"
    safetensors.save_file(theirs.state_dict(), path)
    del theirs
    ours = like_large(
        cells=6,
        filters=filters,
        genotype=zoo.NASNET_A if pools == "trained" else timms_reduction(),
        stem_filters=stem_filters,
        classifier_activation=None,
        input_shape=(*size, 3),
    )
    report = load_weights(ours, path)
    assert not report.missing
    assert not report.unused
    assert_same(run(ours, x), expected)
    cut = keras.Model(ours.input, ours.get_layer("Head_ReLU").output)
    assert_same(run(cut, x), features)
    print(f"largest difference of logits: {np.abs(run(ours, x) - expected).max():.1e}")
