"""Draws the pictures of README and docs from data: the cells, and the table that a benchmark wrote.

python docs/pictures.py
"""

import re
from pathlib import Path

import nasnet_zoo as zoo
from nasnet_zoo.cells.draw import genotype_svg
from nasnet_zoo.cells.draw_layers import layers_svg
from nasnet_zoo.cells.draw_recurrent import recurrent_svg
from nasnet_zoo.cells.draw_tree import tree_svg
from nasnet_zoo.reports.charts import bar_chart, save_chart

DOCS = Path(__file__).parent
#: What draws each genotype, by the name of its picture.
CELLS = {
    "nasnet-a": (genotype_svg, zoo.NASNET_A),
    "nasnet-b": (genotype_svg, zoo.NASNET_B),
    "nasnet-c": (genotype_svg, zoo.NASNET_C),
    "pnasnet-5": (genotype_svg, zoo.PNASNET_5),
    "amoebanet-a": (genotype_svg, zoo.AMOEBANET_A),
    "enas": (genotype_svg, zoo.ENAS),
    "darts-v2": (genotype_svg, zoo.DARTS_V2),
    "nas-v1": (layers_svg, zoo.NAS_V1),
    "nascell": (recurrent_svg, zoo.NASCELL),
    "treecell-a": (tree_svg, zoo.TREECELL_A),
    "treecell-b": (tree_svg, zoo.TREECELL_B),
}
#: The bars of the chart, each with the files that it is about: of LiteRT and of ONNX Runtime.
LATENCIES = {
    "keras.applications, float32": ("keras.tflite", "keras.onnx"),
    "nasnet-zoo, float32": ("ours.tflite", "ours.onnx"),
    "nasnet-zoo, int8": ("int8.tflite", "int8.onnx"),
}


def milliseconds(page: str) -> dict[str, float]:
    """The milliseconds of one thread by file, in the table of Mobile of docs/export.md."""
    table = page.partition("<!-- mobile: ")[2].partition("<!-- end of mobile -->")[0]
    rows = re.findall(r"^\| (\S+) \| [^|]+ \| ([\d.]+) ms", table, re.M)
    return {name: float(time) for name, time in rows}


def main() -> None:
    """Draw all pictures."""
    for name, (draw, genotype) in CELLS.items():
        (DOCS / "pictures" / f"{name}.svg").write_text(draw(genotype), encoding="utf-8")
    times = milliseconds((DOCS / "export.md").read_text(encoding="utf-8"))
    bars = {name: [times[file] for file in files] for name, files in LATENCIES.items()}
    title = "NASNet-A Mobile, 224x224: milliseconds an image, one thread"
    save_chart(bar_chart(("LiteRT", "ONNX Runtime"), bars, title), DOCS / "pictures" / "latency.svg")


if __name__ == "__main__":
    main()
