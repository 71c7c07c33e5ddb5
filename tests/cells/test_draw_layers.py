import re

from hypothesis import given
from strategies import examples, layerwise_genotypes

from nasnet_zoo.cells import NAS_V1, LayerGenotype, LayerwiseGenotype
from nasnet_zoo.cells.draw_layers import layers_svg

HEAD = re.compile(r'<path d="M[\d.]+ [\d.]+l')


def test_the_picture_has_a_box_for_each_layer_and_an_arrow_for_each_connection():
    picture = layers_svg(NAS_V1)
    assert picture.count("<rect") == 1 + 15 + 2
    assert "15: 7×5 conv, 48" in picture
    assert len(HEAD.findall(picture)) == 65 + 2  # from the image, and to the classifier


@examples(20)
@given(genotype=layerwise_genotypes())
def test_everything_is_inside_the_picture(genotype):
    picture = layers_svg(genotype)
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture).groups())
    connections = sum(len(layer.inputs) or 1 for layer in genotype.layers) + len(genotype.loose_ends)
    assert len(HEAD.findall(picture)) == connections
    for curve in re.findall(r"M([-\d. ]+)C([-\d. ]+)", picture):
        (x, y), (x1, y1, x2, y2, x3, y3) = ([*map(float, part.split())] for part in curve)
        for start, first, second, end, limit in ((x, x1, x2, x3, width), (y, y1, y2, y3, height)):
            middle = (start + 3 * first + 3 * second + end) / 8
            assert 0 <= middle <= limit
    assert "—" not in picture


def test_names_are_escaped_and_strides_written():
    layer = LayerGenotype((2, 2), 0, (), (2, 2), "max_pool")
    picture = layers_svg(LayerwiseGenotype("<a & b>", (layer,)))
    assert "&lt;a &amp; b&gt;" in picture
    assert "1: 2×2 max pool, stride 2×2" in picture
