import json

import pytest
from hypothesis import given
from strategies import genotypes

from nasnet_zoo.cells import (
    NAS_V1,
    NASNET_A,
    NASNET_B,
    NASNET_C,
    Block,
    CellGenotype,
    Genotype,
    LayerwiseGenotype,
    RecurrentGenotype,
    TreeNode,
)


@given(genotypes())
def test_json_round_trip(genotype):
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_file_round_trip_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text("old")
    NASNET_B.save(path)
    assert Genotype.load(path) == NASNET_B
    assert [p.name for p in tmp_path.iterdir()] == ["cell.json"]


def test_default_outputs_are_the_blocks_that_no_block_reads():
    blocks = (
        Block((0, 1), ("identity",) * 2),
        Block((2, 0), ("sep_3x3",) * 2),
        Block((1, 1), ("max_3x3",) * 2),
    )
    assert CellGenotype(blocks).outputs == (3, 4)


def _cell(**changes):
    cell = {"blocks": [{"inputs": [0, 1], "operations": ["sep_3x3", "identity"], "combination": "add"}]}
    return cell | changes


def _block(**changes):
    return _cell(blocks=[_cell()["blocks"][0] | changes])


BROKEN = {
    "unknown operation": (_block(operations=["sep_3x3", "sep_4x4"]), "normal.blocks[0].operations[1]"),
    "operation of a wrong type": (_block(operations=["sep_3x3", 3]), "normal.blocks[0].operations[1]"),
    "unknown combination": (_block(combination="multiply"), "normal.blocks[0].combination"),
    "input that does not exist yet": (_block(inputs=[0, 3]), "normal.blocks[0].inputs[1]"),
    "cycle: a block reads itself": (_block(inputs=[2, 0]), "normal.blocks[0].inputs[0]"),
    "negative input": (_block(inputs=[-1, 0]), "normal.blocks[0].inputs[0]"),
    "input of a wrong type": (_block(inputs=["0", 0]), "normal.blocks[0].inputs[0]"),
    "boolean input": (_block(inputs=[True, 0]), "normal.blocks[0].inputs[0]"),
    "three inputs": (_block(inputs=[0, 0, 1]), "normal.blocks[0].inputs"),
    "inputs not a list": (_block(inputs=7), "normal.blocks[0].inputs"),
    "no blocks": (_cell(blocks=[]), "normal.blocks"),
    "blocks not a list": (_cell(blocks={}), "normal.blocks"),
    "block not an object": (_cell(blocks=[3]), "normal.blocks[0]"),
    "missing key": (_cell(blocks=[{"inputs": [0, 1]}]), "normal.blocks[0]"),
    "unknown key": (_block(stride=2), "normal.blocks[0]"),
    "output that does not exist": (_cell(outputs=[3]), "normal.outputs[0]"),
    "output twice": (_cell(outputs=[2, 2]), "normal.outputs"),
    "too many blocks": (_cell(blocks=_cell()["blocks"] * 101), "normal.blocks"),
    "too many inputs": (_cell(inputs=9), "normal.inputs"),
    "too many projections": (_cell(projections=1_000_000), "normal.projections"),
    "no projections": (_cell(projections=0), "normal.projections"),
    "no outputs": (_cell(outputs=[]), "normal.outputs"),
    "wrong number of inputs": (_cell(inputs=0), "normal.inputs"),
    "labelled of a wrong type": (_cell(labelled=1), "normal.labelled"),
    "labelled cell with too few outputs": (_cell(labelled=True, outputs=[2]), "normal.outputs"),
    "cell not an object": ([], "normal"),
}


@pytest.mark.parametrize(("normal", "place"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_the_place(tmp_path, normal, place):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({"name": "broken", "normal": normal, "reduction": _cell()}))
    with pytest.raises(ValueError, match="Received: ") as error:
        Genotype.load(path)
    assert str(error.value).startswith(f"{path}: {place}: expected ")


def test_a_later_block_cannot_be_read():
    blocks = [_cell()["blocks"][0], _cell()["blocks"][0] | {"inputs": [2, 3]}]
    with pytest.raises(ValueError, match=r"^reduction.blocks\[1\].inputs\[1\]: expected .* 0 to 2"):
        Genotype.from_dict({"normal": _cell(), "reduction": _cell(blocks=blocks)})


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("", "nothing"),
        ("{", "no JSON at line 1, column 2"),
        ('{"normal": ', "no JSON at line 1, column 12"),
        ("NASNet-A", "no JSON at line 1, column 1"),
        ("[" * 100_000, "lists nested too deeply"),
        ('{"normal": NaN}', "the number NaN"),
    ],
)
def test_text_that_is_not_json_is_refused_with_what_was_found(tmp_path, text, received):
    with pytest.raises(ValueError, match=f"^genotype: expected JSON. Received: {received}"):
        Genotype.from_json(text)
    path = tmp_path / "cell.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}: genotype: expected JSON. Received: {received}"):
        Genotype.load(path)


@pytest.mark.parametrize("name", ["a\x07", "a\nb", "\ud800", "\uffff", 3], ids=ascii)
def test_a_name_that_no_picture_can_hold_is_refused(name):
    # The same holds for layer-wise networks and recurrent cells.
    cell = TreeNode("add", "tanh")
    for make in (
        lambda: Genotype(name, NASNET_A.normal, NASNET_A.reduction),
        lambda: LayerwiseGenotype(name, NAS_V1.layers),
        lambda: RecurrentGenotype(name, (cell,), cell, (0, 0)),
    ):
        with pytest.raises(ValueError, match="^name: expected a string without control char"):
            make()


def test_a_file_that_is_no_text_is_refused_by_its_name(tmp_path):
    path = tmp_path / "cell.json"
    with pytest.raises(
        FileNotFoundError, match=f"{path}: expected a genotype in JSON. Received: no such"
    ):
        Genotype.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"{path}: expected a genotype in JSON. Received: bytes that"):
        Genotype.load(path)


def test_what_was_received_is_told_in_a_line_of_some_length():
    with pytest.raises(ValueError, match="^normal.blocks: expected") as error:
        Genotype.from_dict({"normal": _cell(blocks=["x"] * 1000), "reduction": _cell()})
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("data", [[], {"normal": _cell()}, {"reduction": _cell()}, None, "x"])
def test_a_genotype_needs_both_cells(data):
    with pytest.raises(ValueError, match="^genotype: expected"):
        Genotype.from_dict(data)


def test_both_cells_pass_their_states_on_in_one_way():
    with pytest.raises(
        ValueError, match="^reduction: expected the inputs and labelled of the normal cell"
    ):
        Genotype("mixed", NASNET_A.normal, NASNET_B.reduction)


def test_genotypes_are_values():
    assert hash(Genotype.from_json(NASNET_C.to_json())) == hash(NASNET_C)
    with pytest.raises(AttributeError):
        NASNET_A.name = "B"


def test_zero_padded_pools_replace_pools_on_initial_states_of_the_reduction_cell_only():
    padded = NASNET_A.with_zero_padded_pools()
    assert padded.normal == NASNET_A.normal
    operations = [block.operations for block in padded.reduction.blocks]
    assert operations == [
        ("sep_5x5", "sep_7x7"),
        ("zero_max_3x3", "sep_7x7"),
        ("zero_avg_3x3", "sep_5x5"),
        ("identity", "avg_3x3"),
        ("sep_3x3", "zero_max_3x3"),
    ]
