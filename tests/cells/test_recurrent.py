"""Recurrent cells as data, and what a step of them computes."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from strategies import examples, recurrent_genotypes

from nasnet_zoo.cells import NASCELL, NASCELL_MAX, RecurrentGenotype, TreeNode, recurrent_step

# The worked example of the paper, base 2 ([Z] Figure 5).
EXAMPLE = RecurrentGenotype.from_tokens(
    ("add", "tanh", "elem_mult", "relu", "elem_mult", "sigmoid", "add", "relu", 1, 0), "Figure 5"
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def interpreted(tokens, x, m, c):
    """A step computed from the tokens alone, in NumPy."""
    combine = {"add": np.add, "elem_mult": np.multiply, "max": np.maximum}
    activate = {
        "identity": lambda a: a,
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "relu": relu,
        "sin": np.sin,
    }
    *pairs, take, enter = tokens
    *nodes, inject = zip(pairs[::2], pairs[1::2], strict=True)
    waiting = list(zip(x, m, strict=True))
    outputs = []
    for number, (combination, activation) in enumerate(nodes):
        before = combine[combination](*waiting.pop(0))
        if number == take:
            memory = before
        after = activate[activation](before)
        if number == enter:
            after = activate[inject[1]](combine[inject[0]](after, c))
        outputs.append(after)
        if number % 2:
            waiting.append(outputs[-2:])
    return outputs[-1], memory


def step(genotype, x, m, c):
    x, m, c = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, m, c))
    return [keras.ops.convert_to_numpy(tensor) for tensor in recurrent_step(genotype, x, m, c)]


def draws(base, seed=0):
    x, m, c = np.random.default_rng(seed).normal(size=(3, base, 2, 3)).astype(np.float32)
    return list(x), list(m), c[0]


def test_the_worked_example_has_the_paper_s_numbers():
    x = [np.float32([[0.5]]), np.float32([[2.0]])]
    m = [np.float32([[0.25 * 0.8]]), np.float32([[0.5 * 0.8]])]
    h, c = step(EXAMPLE, x, m, np.float32([[0.3]]))
    np.testing.assert_allclose([h.item(), c.item()], [0.673376, 0.8], atol=1e-6)


def test_the_found_cell_computes_its_equations():
    x, m, c = draws(8)
    gates = (sigmoid, relu, sigmoid, relu, np.tanh, sigmoid, np.tanh, sigmoid)
    leaf = [f(a * b if k == 3 else a + b) for k, (f, a, b) in enumerate(zip(gates, x, m, strict=True))]
    memory = np.tanh(np.tanh(leaf[0] * leaf[1]) + c) * np.tanh(leaf[2] + leaf[3])
    rest = np.tanh(np.tanh(leaf[4] * leaf[5]) + sigmoid(leaf[6] + leaf[7]))
    np.testing.assert_allclose(step(NASCELL, x, m, c)[0], np.tanh(memory * rest), atol=1e-6)
    np.testing.assert_allclose(step(NASCELL, x, m, c)[1], memory, atol=1e-6)


def test_the_cell_with_max_computes_its_equations():
    x, m, c = draws(8)
    l0 = np.maximum(x[0], m[0])
    l1 = np.tanh(np.maximum(x[1], m[1])) + c
    l2, l3 = np.tanh(x[2] + m[2]), relu(x[3] + m[3])
    l4, l5 = np.tanh(x[4] + m[4]), x[5] + m[5]
    l6, l7 = np.tanh(x[6] + m[6]), np.tanh(np.maximum(x[7], m[7]))
    memory = (l0 + l1) * sigmoid(l2 + l3)
    h = np.tanh(memory * sigmoid(sigmoid(l4 + l5) * sigmoid(l6 + l7)))
    np.testing.assert_allclose(step(NASCELL_MAX, x, m, c)[0], h, atol=1e-6)
    np.testing.assert_allclose(step(NASCELL_MAX, x, m, c)[1], memory, atol=1e-6)


def test_the_found_cell_s_tokens_are_those_of_figure_8():
    expected = (
        "add sigmoid, add relu, add sigmoid, elem_mult relu, add tanh, add sigmoid, add tanh, "
        "add sigmoid, elem_mult tanh, add tanh, elem_mult tanh, add sigmoid, elem_mult identity, "
        "add tanh, elem_mult tanh, add tanh"
    )
    assert NASCELL.tokens == (*expected.replace(",", "").split(), 12, 8)
    assert len(NASCELL.tokens) == 34
    assert NASCELL.base == NASCELL_MAX.base == 8
    assert [NASCELL.children(k) for k in (7, 8, 12, 14)] == [None, (0, 1), (8, 9), (12, 13)]


@examples(60)
@given(recurrent_genotypes())
def test_any_cell_computes_what_its_tokens_say(genotype):
    x, m, c = draws(genotype.base)
    expected = interpreted(genotype.tokens, x, m, c)
    for found, value in zip(step(genotype, x, m, c), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


@given(recurrent_genotypes())
def test_a_recurrent_cell_survives_json_and_tokens(genotype):
    assert RecurrentGenotype.from_json(genotype.to_json()) == genotype
    assert RecurrentGenotype.from_tokens(genotype.tokens, genotype.name) == genotype


def test_a_recurrent_cell_is_a_value_and_a_file(tmp_path):
    NASCELL.save(tmp_path / "cell.json")
    assert hash(RecurrentGenotype.load(tmp_path / "cell.json")) == hash(NASCELL)
    with pytest.raises(AttributeError):
        NASCELL.name = "LSTM"


def _cell(**changes):
    return EXAMPLE.to_dict() | changes


NODE = {"combination": "add", "activation": "tanh"}
BROKEN = {
    "unknown combination": (
        _cell(nodes=[NODE, NODE, NODE | {"combination": "mul"}]),
        "nodes[2].combin",
    ),
    "unknown activation": (_cell(nodes=[NODE, NODE | {"activation": "elu"}, NODE]), "nodes[1].activ"),
    "token of a wrong type": (_cell(nodes=[NODE | {"activation": 3}]), "nodes[0].activation"),
    "unknown token of the injection": (_cell(inject=NODE | {"activation": "?"}), "inject.activation"),
    "injection not an object": (_cell(inject=["add", "tanh"]), "inject"),
    "even number of nodes": (_cell(nodes=[NODE] * 4), "nodes: expected 2b - 1 nodes"),
    "no nodes": (_cell(nodes=[]), "nodes: expected 2b - 1 nodes"),
    "too many nodes": (_cell(nodes=[NODE] * 129), "nodes: expected 2b - 1 nodes"),
    "nodes not a list": (_cell(nodes={}), "nodes"),
    "node without an activation": (_cell(nodes=[{"combination": "add"}]), "nodes[0]"),
    "unknown key of a node": (_cell(nodes=[NODE | {"units": 3}]), "nodes[0]"),
    "index outside": (_cell(cell_indices=[0, 3]), "cell_indices[1]: expected a node, 0 to 2"),
    "negative index": (_cell(cell_indices=[-1, 0]), "cell_indices[0]"),
    "boolean index": (_cell(cell_indices=[True, 0]), "cell_indices[0]"),
    "one index": (_cell(cell_indices=[1]), "cell_indices"),
    "missing key": ({"nodes": [NODE], "inject": NODE}, "recurrent cell: expected the key"),
    "unknown key": (_cell(base=2), "recurrent cell"),
    "name not a string": (_cell(name=3), "name"),
    "not an object": ([], "recurrent cell"),
}


@pytest.mark.parametrize(("data", "place"), BROKEN.values(), ids=BROKEN)
def test_a_broken_recurrent_cell_is_refused_by_the_place(tmp_path, data, place):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"^[^\n]*: expected [^\n]* Received: [^\n]*$") as error:
        RecurrentGenotype.load(path)
    assert str(error.value).startswith(f"{path}: {place}")


@pytest.mark.parametrize("tokens", [(), ("add",) * 9, (*EXAMPLE.tokens, 1, 0)])
def test_a_wrong_number_of_tokens_is_refused(tokens):
    with pytest.raises(
        ValueError, match=rf"^tokens: expected 2\(2b - 1\) \+ 4 tokens .*: {len(tokens)}"
    ):
        RecurrentGenotype.from_tokens(tokens)


def test_tokens_are_refused_by_the_place():
    with pytest.raises(ValueError, match=r"^nodes\[0\].combination: expected one of add, elem_mult"):
        RecurrentGenotype.from_tokens(("tanh", "add", *EXAMPLE.tokens[2:]))
    with pytest.raises(ValueError, match=r"^inject: expected a combination and an activation"):
        RecurrentGenotype("x", (TreeNode("add", "tanh"),), "add", (0, 0))
