"""Files that compute something else are refused, and what quantisation costs is told."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from documented import check_figures
from mutants import Judge, mutants
from settled import images, network

import nasnet_zoo as zoo
from nasnet_zoo.cells import Block, CellGenotype, Genotype
from nasnet_zoo.cli import main
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.export import VerificationError, export, load_runtime, verify, watching
from nasnet_zoo.saving import load_model

pytestmark = pytest.mark.tensorflow

SIZE = (12, 12)
SAMPLE = Path(__file__).parents[1] / "data" / "fashion_mnist"
_BLOCKS = Block((0, 1), ("sep_3x3", "avg_3x3")), Block((2, 0), ("sep_5x5", "identity"))
SMALL = Genotype("small", CellGenotype(_BLOCKS), CellGenotype(_BLOCKS))
NUMBERS = [
    *((".tflite", numbers) for numbers in ("float32", "float16", "dynamic", "int8", "int16x8")),
    *((".onnx", numbers) for numbers in ("float32", "float16", "int8")),
]


@pytest.fixture(scope="module")
def model():
    return network(SMALL, SIZE)


@pytest.fixture(scope="module")
def batch():
    return images(20, SIZE)


def _counts(model, path, batch, share=1):
    """How many mutants of a file there are of each fate; every ``share``-th is looked at."""
    judge = Judge(model, path, batch)
    fates = Counter()
    survivors = []
    for number, (name, mutation, data) in enumerate(mutants(path)):
        if number % share == 0:
            fate = judge(data)
            fates[fate] += 1
            survivors += [(name, mutation)] * (fate == "survived")
    return fates, survivors


@pytest.mark.parametrize(("suffix", "numbers"), NUMBERS)
def test_a_wrong_weight_is_refused(model, batch, tmp_path, suffix, numbers):
    path = tmp_path / f"model{suffix}"
    export(model, path, quantization=numbers, representative=batch, min_agreement=0.0)
    fates, survivors = _counts(model, path, batch, share=29)
    assert not survivors
    # Biases on scales that kernels know otherwise, and little else, may be what they like.
    assert fates["killed"] > fates["equivalent"]


@pytest.mark.parametrize(("suffix", "numbers"), NUMBERS)
def test_pieces_compute_what_the_file_does(monkeypatch, model, batch, tmp_path, suffix, numbers):
    path = tmp_path / f"model{suffix}"
    options = {"quantization": numbers, "representative": batch, "min_agreement": 0.0}
    whole = export(model, path, **options)
    monkeypatch.setattr(watching, "_PIECE", 1)  # a piece for each operation
    pieces = verify(path, model, batch, min_agreement=0.0)
    assert pieces.values == whole.values > 50
    assert pieces.nearness == pytest.approx(whole.nearness, rel=0.01)


@pytest.mark.parametrize(("suffix", "numbers"), NUMBERS)
def test_a_trained_network_passes(tmp_path, suffix, numbers):
    """Its sums in 16 bits are larger than float32 holds to the last integer."""
    sample = load_idx(SAMPLE)
    model = zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist")
    data = sample.train_images, sample.test_images
    result = export(
        model,
        tmp_path / f"model{suffix}",
        quantization=numbers,
        representative=data[0],
        images=data[1],
        labels=sample.test_labels,
    )
    assert result.agreement >= 0.95
    assert result.accuracy >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "numbers"), NUMBERS)
def test_every_wrong_weight_of_a_trained_network_is_refused(tmp_path, suffix, numbers):
    sample = load_idx(SAMPLE)
    model = zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist")
    path = tmp_path / f"model{suffix}"
    export(model, path, quantization=numbers, representative=sample.train_images)
    chosen = zoo.preprocess_input(sample.test_images[:200].astype(np.float32))
    fates, survivors = _counts(model, path, chosen, share=10)
    print(dict(fates))
    assert not survivors
    assert fates["killed"] > fates["equivalent"]


# === Files of others ===


def test_a_file_of_another_converter_is_compared_by_its_outputs(model, batch, tmp_path):
    for name in ("model.tflite", "model.onnx", "model"):
        export(model, tmp_path / name, converter="official")
        found = verify(tmp_path / name, model, batch)
        assert (found.values, found.agreement) == (0, 1.0)
        assert found.difference < 1e-4
        assert found.signal_to_noise > 60


def test_a_file_of_another_model_is_refused(model, batch, tmp_path):
    other = network(SMALL, SIZE)
    other.set_weights([w + 0.1 * np.abs(w).mean() for w in other.get_weights()])
    for name in ("model.tflite", "model.onnx", "model"):
        export(other, tmp_path / name)
        with pytest.raises(VerificationError, match=f"{name}: expected"):
            verify(tmp_path / name, model, batch)
        assert verify(tmp_path / name, other, batch).agreement == 1.0


def test_a_file_with_the_values_of_another_network_is_refused(model, batch, tmp_path):
    block = Block((0, 1), ("sep_3x3", "identity"))
    other = network(Genotype("other", CellGenotype((block,)), CellGenotype((block,))), SIZE)
    export(
        other, tmp_path / "model.tflite", quantization="int8", representative=batch, min_agreement=0.0
    )
    with pytest.raises(VerificationError, match="expected the values of this model"):
        verify(tmp_path / "model.tflite", model, batch, min_agreement=0.0)


@pytest.mark.parametrize("told", ["int4", "int8", "float16"])
def test_a_file_that_tells_other_numbers_than_it_holds(model, batch, tmp_path, told):
    path = tmp_path / "model.onnx"
    export(model, path)
    file = onnx.load(path)
    (entry,) = [entry for entry in file.metadata_props if entry.key == "quantization"]
    entry.value = told
    onnx.save(file, path)
    with pytest.raises(VerificationError, match="model.onnx: expected"):
        verify(path, model, batch, min_agreement=0.0)


# === Limits ===


def test_nothing_but_finite_numbers_passes(model, batch, tmp_path):
    broken = network(SMALL, SIZE)
    kernel = broken.get_layer("predictions").kernel
    kernel.assign(kernel * 1e6)
    # The greatest number of float16 is 65,504.
    with pytest.raises(ValueError, match="expected finite outputs. Received: the file's are not"):
        export(broken, tmp_path / "model.onnx", quantization="float16")
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match="Expected finite weights. Received: predictions/kernel"):
        export(broken, tmp_path / "model.onnx")
    variance = next(v for v in broken.variables if v.path.endswith("variance"))
    variance.assign(-variance)
    with pytest.raises(ValueError, match="Expected variances of at least 0"):
        export(broken, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trained():
    """A model, a file of it in int8, and images with labels."""
    sample = load_idx(SAMPLE)
    return zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist"), sample


def test_what_quantisation_costs_is_told_and_limited(trained, tmp_path):
    model, sample = trained
    pixels, labels = sample.test_images[:200], sample.test_labels[:200]
    path = tmp_path / "model.tflite"
    arguments = {"quantization": "int8", "representative": sample.train_images, "images": pixels}
    told = export(model, path, labels=labels, **arguments)
    assert 0 < told.nearness < 0.25
    assert 20 < told.signal_to_noise < 40
    card = path.with_name("model.tflite.md").read_text()
    for text in (f"{told.signal_to_noise:.1f} dB", f"{told.agreement:.1%}", f"{told.accuracy:.2%}"):
        assert text in card
        assert text in str(told)
    assert told.agreement < 1.0
    with pytest.raises(VerificationError, match="the class of Keras on at least 100.0%"):
        verify(path, model, pixels, min_agreement=1.0)
    # Labels that Keras always gets right: then the file loses what it disagrees in.
    own = np.asarray(model(zoo.preprocess_input(pixels.astype(np.float32)))).argmax(-1)
    with pytest.raises(VerificationError, match="expected to lose at most 0.0% of accuracy"):
        verify(path, model, pixels, own, max_accuracy_drop=0.0)
    assert verify(path, model, pixels, own, max_accuracy_drop=0.02).keras_accuracy == 1.0


def test_the_dense_kernel_may_not_be_zero(trained, tmp_path):
    model, sample = trained
    path = tmp_path / "model.onnx"
    few = sample.test_images[:10]
    export(model, path, quantization="int8", representative=sample.train_images, images=few)
    file = onnx.load(path)
    (kernel,) = [c for c in file.graph.initializer if c.name == "predictions/kernel"]
    kernel.CopyFrom(onnx.numpy_helper.from_array(np.zeros(kernel.dims, np.int8), kernel.name))
    onnx.save(file, path)
    with pytest.raises(VerificationError, match="expected the model's weights for predictions"):
        verify(path, model, few, min_agreement=0.0)


def test_class_names_travel_with_the_model(tmp_path):
    names = tuple("abcdefg")
    model = network(SMALL, SIZE, class_names=names)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    for name in ("model.tflite", "model.onnx", "model"):
        export(loaded, tmp_path / name)
        assert load_runtime(tmp_path / name).class_names == names


def test_the_command(trained, tmp_path, capsys):
    model, _ = trained
    model.save(tmp_path / "model.keras")
    path = tmp_path / "model.tflite"
    arguments = ["--images", str(SAMPLE), "--limit", "100"]
    export_arguments = ["export", str(tmp_path / "model.keras"), "--out", str(path)]
    capsys.readouterr()
    assert main([*export_arguments, "--quantization", "int8", *arguments, "--json"]) == 0
    output = capsys.readouterr()
    check_figures("export", json.loads(output.out))
    assert "values as simulated" in output.err
    check = ["verify", str(path), str(tmp_path / "model.keras"), *arguments]
    assert main([*check, "--json", str(tmp_path / "found.json")]) == 0
    check_figures("verify", json.loads((tmp_path / "found.json").read_text()))
    assert "values as simulated" in capsys.readouterr().out
    other = ["verify", str(path), "nasnet_a_1_384_fashion_mnist", *arguments]
    capsys.readouterr()
    assert main(other) == 1
    assert "model.tflite: expected" in capsys.readouterr().err
