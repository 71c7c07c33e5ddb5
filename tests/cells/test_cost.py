from hypothesis import example, given
from hypothesis import strategies as st
from strategies import cells, examples

from nasnet_zoo import architecture_cost
from nasnet_zoo.cells import Block, CellGenotype, Graph, Node, cell_graph, graph_cost
from nasnet_zoo.cells.primitives import Conv, Relu
from nasnet_zoo.presets import PRESETS


def test_activation_memory_is_that_worked_out_by_hand():
    nodes = (
        Node("a", ("image",), None, (Conv(3, filters=4),)),
        Node("b", ("a",), None, (Relu(), Conv(3, stride=2, filters=4))),
        Node("c", ("b",), None, (Relu(),)),
        Node("d", ("b", "c"), "add"),
        Node("e", ("a",), None, (Conv(1, stride=2, filters=4),)),
        Node("f", ("d", "e"), "concat"),
    )
    # Values: image 192, a 256, the ReLU in b 256, b to e 64 each, f 128. Held while
    # a runs: image, a = 448; the ReLU: a, it = 512; b: a, the ReLU, b = 576; c: a, b, c = 384;
    # d: a, b, c, d = 448; e: a, d, e = 384; f: d, e, f = 256.
    assert graph_cost(Graph(("image",), nodes, ("f",)), [(8, 8, 3)]).activation_memory == 4 * 576
    # As an output, a is held to the end, and f needs d, e and a with it: no more than b did.
    assert graph_cost(Graph(("image",), nodes, ("f", "a")), [(8, 8, 3)]).activation_memory == 4 * 576
    # So is the ReLU's result if a node of its own makes it: d needs it too.
    apart = (
        nodes[0],
        Node("r", ("a",), None, (Relu(),)),
        Node("b", ("r",), None, nodes[1].primitives[1:]),
    )
    graph = Graph(("image",), (*apart, *nodes[2:]), ("f", "r"))
    assert graph_cost(graph, [(8, 8, 3)]).activation_memory == 4 * (256 + 256 + 3 * 64)


def _brute_force(graph, shapes):
    """For each step look through all steps for the values that are needed."""
    known = graph.shapes(shapes)
    sizes = {name: known[name][0] * known[name][1] * known[name][2] for name in graph.inputs}
    steps = []

    def step(reads, makes, shape):
        height, width, channels = shape
        sizes[makes] = height * width * channels
        steps.append((reads, makes))

    for node in graph.nodes:
        reads = list(node.inputs)
        runs = [None] * (node.merge is not None) + list(node.primitives)
        shape = known[node.inputs[0]]
        for count, primitive in enumerate(runs, 1):
            if primitive is None:
                channels = [known[name][2] for name in node.inputs]
                shape = (*shape[:2], sum(channels) if node.merge == "concat" else channels[0])
            else:
                shape = primitive.output_shape(shape, node.filters)
            makes = node.name if count == len(runs) else f"{node.name}, step {count}"
            step(reads, makes, shape)
            reads = [makes]
    # A cell that gives its inputs as they are has no steps.
    found = [sum(sizes[name] for name in {*graph.inputs} & {*graph.outputs})]
    for k in range(len(steps)):
        there = {*graph.inputs, *(makes for _, makes in steps[: k + 1])}
        needed = {name for reads, _ in steps[k:] for name in reads} | {*graph.outputs, steps[k][1]}
        found.append(sum(sizes[name] for name in there & needed))
    return max(found)


@given(cells(max_blocks=5), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.integers(1, 6))
@examples(100)
@example(CellGenotype((Block((0, 0), ("1x3_3x1", "1x3_3x1")),), (1,)), 1, 1, 4)  # an input as it is
def test_activation_memory_is_that_of_brute_force(cell, stride, scale, filters):
    graph = cell_graph(cell, filters, stride, [5, 4], [1, scale])
    shapes = [(6, 7, 5), (6 * scale, 7 * scale, 4)]
    assert graph_cost(graph, shapes).activation_memory == 4 * _brute_force(graph, shapes)


def test_larger_images_need_more_memory():
    small, large = (
        architecture_cost(PRESETS["nasnet_mobile"].architecture, image_size=size) for size in (224, 448)
    )
    assert 3.9 < large.activation_memory / small.activation_memory < 4.2
    assert large.parameters == small.parameters
