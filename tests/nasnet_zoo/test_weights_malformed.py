"""Malformed files of weights: refused in one line that names the file, before anything changes."""

import json
import os
import struct
import zipfile

import h5py
import numpy as np
import pytest
from slim_reference import write_checkpoint
from weights_helpers import save_legacy, tiny, tiny_keras

from nasnet_zoo.saving import load_model
from nasnet_zoo.weights import load_weights
from nasnet_zoo.weights.mapping import TENSORFLOW_BATCH_NORM, by_table, targets
from nasnet_zoo.weights.slim import TABLE, cell_scope

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model():
    """A model to load into; every load changes all of it or nothing."""
    return tiny(classes=5)


@pytest.fixture(scope="module")
def sources(model, tmp_path_factory):
    """A good file of each kind."""
    folder = tmp_path_factory.mktemp("sources")
    model.save_weights(folder / "ours.weights.h5")
    model.save(folder / "ours.keras")
    theirs = tiny_keras(classes=5)
    theirs.save_weights(folder / "theirs.weights.h5")
    theirs.save(folder / "theirs.keras")
    save_legacy(theirs, folder / "theirs.h5")
    return folder


def change_hdf5(source, path, change):
    """Copies an HDF5 file, alone or in an archive, and changes it by ``change(file)``."""
    if path.suffix != ".keras":
        path.write_bytes(source.read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        return
    weights = path.with_name("model.weights.h5")
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as changed:
        weights.write_bytes(archive.read(weights.name))
        with h5py.File(weights, "r+") as file:
            change(file)
        changed.write(weights, weights.name)
        weights.unlink()


def refused(model, path, message):
    before = model.get_weights()
    with pytest.raises((ValueError, OSError), match=message) as caught:
        load_weights(model, path)
    text = str(caught.value)
    assert "Received: " in text
    assert "\n" not in text
    assert os.path.basename(path) in text
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def filled(value):
    def change(values):
        values.flat[-1] = value
        return values

    return change


VALUES = {
    "NaN": (filled(np.nan), "Received: NaN in {weight}"),
    "infinity": (filled(-np.inf), "Received: infinity in {weight}"),
    "too large": (lambda v: filled(1e300)(v.astype("float64")), "Received: infinity in {weight}"),
    "negative variance": (filled(-0.25), r"Received: the variance -0\.25 in {weight}"),
    "integers": (lambda v: v.astype("int32"), "floating-point numbers. Received: .*{weight} of type"),
}
#: By file: the variance of the stem's batch norm in it, and how the messages name that.
VARIANCES = {
    "ours.weights.h5": ("layers/stem/vars/4", "Stem_Conv/4"),
    "ours.keras": ("layers/stem/vars/4", "Stem_Conv/4"),
    "theirs.weights.h5": ("layers/batch_normalization/vars/3", "stem_bn1/moving_variance"),
    "theirs.keras": ("layers/batch_normalization/vars/3", "stem_bn1/moving_variance"),
    "theirs.h5": ("stem_bn1/stem_bn1/moving_variance", "stem_bn1/moving_variance"),
}


def replace(where, value):
    def change(file):
        del file[where]
        file[where] = value

    return change


@pytest.mark.parametrize("kind", [*VALUES, "objects"])
@pytest.mark.parametrize("name", VARIANCES)
def test_values_that_are_no_weights(model, sources, tmp_path, name, kind):
    where, weight = VARIANCES[name]
    if kind == "objects":
        value, message = np.array([b"0.5"] * 8, object), "Received: .*{weight} of type object"
    else:
        change, message = VALUES[kind]
        value = change(np.ones(8, "float32"))
    change_hdf5(sources / name, tmp_path / name, replace(where, value))
    if "of type" in message:
        weight = where
    refused(model, tmp_path / name, message.format(weight=weight))


def as_slim(model):
    """The weights by TF-Slim's names."""
    name_of = by_table(TABLE, TENSORFLOW_BATCH_NORM, lambda t: {**cell_scope(t), "last": "1"})
    return {name_of(target): np.array(target.variable) for target in targets(model)}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_a_checkpoint_that_are_no_weights(model, tmp_path, kind):
    change, message = VALUES[kind]
    values = as_slim(model)
    values["conv0_bn/moving_variance"] = change(values["conv0_bn/moving_variance"])
    path = write_checkpoint(tmp_path / "model.ckpt", values)
    refused(model, path, message.format(weight="conv0_bn/moving_variance"))


def test_a_bfloat16_file_is_read(model, sources, tmp_path):
    """Keras stores its bytes with a note, since HDF5 has no such type."""
    import ml_dtypes

    def change(file):
        del file["layers/stem/vars/4"]
        data = file.create_dataset("layers/stem/vars/4", data=np.ones(8, ml_dtypes.bfloat16).view("V2"))
        data.attrs["dtype"] = "bfloat16"

    change_hdf5(sources / "ours.weights.h5", tmp_path / "x.weights.h5", change)
    load_weights(model, tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(model.get_layer("Stem_Conv").weights[4], np.ones(8))


@pytest.mark.parametrize("name", VARIANCES)
def test_nothing_outside_the_file_is_read(model, sources, tmp_path, name):
    where, weight = VARIANCES[name]
    values = np.ones(8, "float32")
    (tmp_path / "raw").write_bytes(values.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = values
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "values", (8,))

    def external(file):
        del file[where]
        file.create_dataset(where, (8,), "f4", external=[(str(tmp_path / "raw"), 0, 32)])

    def virtual(file):
        del file[where]
        file.create_virtual_dataset(where, layout)

    for change in (external, virtual):
        change_hdf5(sources / name, tmp_path / name, change)
        refused(model, tmp_path / name, f"Received: {where}, which is stored in another file")
    for link in (h5py.ExternalLink(tmp_path / "other.h5", "values"), h5py.SoftLink("/" + where[:-1])):
        change_hdf5(sources / name, tmp_path / name, replace(where, link))
        refused(model, tmp_path / name, f"missing weights: {weight[:9]}")


@pytest.mark.parametrize("name", VARIANCES)
def test_other_shapes_missing_layers_and_cut_files(model, sources, tmp_path, name):
    where, weight = VARIANCES[name]
    change_hdf5(sources / name, tmp_path / name, replace(where, np.ones(9, "float32")))
    refused(model, tmp_path / name, f"other shapes: {weight} of shape \\(9,\\)")
    change_hdf5(sources / name, tmp_path / name, replace(where, np.float32(1)))
    refused(model, tmp_path / name, f"other shapes: {weight} of shape \\(\\)")

    def drop(file):
        del file[where.split("/vars")[0].split("/moving")[0]]

    change_hdf5(sources / name, tmp_path / name, drop)
    refused(model, tmp_path / name, "Received: (missing weights|a file of another model)")
    content = (sources / name).read_bytes()
    for size in (0, 10, 5000, len(content) - 200):
        (tmp_path / name).write_bytes(content[:size])
        refused(model, tmp_path / name, "expected a (whole HDF5 file|.keras archive)")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    refused(model, tmp_path / name, "expected a file of weights. Received: is a directory")


def test_names_of_layers_that_are_absent_or_no_text(model, sources, tmp_path):
    path = tmp_path / "x.weights.h5"

    def unnamed(file):
        for layer in file["layers"].values():
            layer["vars"].attrs.clear()

    change_hdf5(sources / "ours.weights.h5", path, unnamed)
    refused(model, path, "without names of layers, from Keras before 3.6")

    def numbers(file):
        file["layers/stem/vars"].attrs["name"] = [1, 2]

    change_hdf5(sources / "ours.weights.h5", path, numbers)
    refused(model, path, "Received: a file of another model")


@pytest.mark.parametrize("fault", ["no zip", "another zip", "bomb", "large", "flipped"])
def test_archives_that_keras_did_not_write(model, sources, tmp_path, fault):
    path = tmp_path / "x.keras"
    if fault == "no zip":
        path.write_text("no")
        refused(model, path, r"expected a \.keras archive\. Received: File is not a zip file")
        return
    stored = zipfile.ZIP_STORED if fault == "another zip" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", stored) as archive:
        if fault == "another zip":
            archive.writestr("config.json", "{}")
        elif fault == "bomb":
            with archive.open("model.weights.h5", "w") as member:
                for _ in range(64):
                    member.write(bytes(2**20))
    if fault == "another zip":
        refused(model, path, "Received: one without")
    elif fault == "bomb":
        assert path.stat().st_size < 10**6
        refused(model, path, "Received: one with model.weights.h5 compressed")
    elif fault == "flipped":
        content = bytearray((sources / "ours.keras").read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        refused(model, path, "Received: Bad CRC-32")
    elif fault == "large":
        content = (sources / "ours.keras").read_bytes()
        with zipfile.ZipFile(sources / "ours.keras") as archive:
            size = struct.pack("<I", archive.getinfo("model.weights.h5").file_size)
        path.write_bytes(content.replace(size, struct.pack("<I", 2**31)))
        refused(model, path, "Received: sizes in it that are beyond its own")


def test_models_of_archives_that_unpack_to_more_than_they_are(tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(2**26))
    with pytest.raises(ValueError, match="Received: one with config.json compressed or encrypted"):
        load_model(path)


def test_a_pickle_in_disguise_and_other_models(model, tmp_path):
    for name in ("x.h5", "x.keras", "x.safetensors"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        refused(model, tmp_path / name, "expected a ")
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["frame/values"] = np.zeros(3)
    refused(model, tmp_path / "table.h5", "missing weights: ")


def write_safetensors(path, header, size):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, "expected a safetensors file"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "missing weights: "),
        (b"[" * 100_000, "expected a safetensors file"),
        ([], "expected a safetensors file"),
    ],
)
def test_safetensors(model, tmp_path, header, message):
    write_safetensors(tmp_path / "x.safetensors", header, 4)
    refused(model, tmp_path / "x.safetensors", message)
    (tmp_path / "x.safetensors").write_bytes(b"")
    refused(model, tmp_path / "x.safetensors", "expected a safetensors file")


def test_a_checkpoint_whose_data_is_gone_or_cut(model, tmp_path):
    values = as_slim(model)
    path = write_checkpoint(tmp_path / "model.ckpt", values)
    data = next(tmp_path.glob("model.ckpt.data-*"))
    content = data.read_bytes()
    for damaged in (content[:1000], b""):
        data.write_bytes(damaged)
        refused(model, path, "expected a (whole checkpoint|TensorFlow checkpoint)")
    data.unlink()
    refused(model, path, "expected a (whole checkpoint|TensorFlow checkpoint)")
