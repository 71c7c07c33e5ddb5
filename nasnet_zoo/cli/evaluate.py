"""``nasnet-zoo evaluate``."""

from __future__ import annotations

from typing import Any

from .shared import ClassNames, Crop, Data, ImageSide, Json


def evaluate(
    model: str,
    /,
    *,
    data: Data,
    image_size: ImageSide = None,
    crop: Crop = 1.0,
    classes: ClassNames = None,
    json: Json = None,
    picture: str | None = None,
) -> dict[str, Any]:
    """Evaluate a model, or an exported file, on test images.

    Prints top-1 and top-5 accuracy, calibration error, and recall and precision of every class.

    Args:
        model: A .keras, .tflite or .onnx file, or a SavedModel folder.
        picture: File for a drawing of the confusion matrix.

    Example:
        nasnet-zoo evaluate runs/digits/model.keras --data digits --picture confusion.svg
    """
    from rich.table import Table

    from nasnet_zoo import evaluation
    from nasnet_zoo.data import read_class_names
    from nasnet_zoo.files import check_writable
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.reports.charts import check_chart
    from nasnet_zoo.reports.tables import print_table

    if json:
        json.check([model])
    if picture:
        check_writable(picture, [model])
        check_chart(picture)
    names = None if classes is None else read_class_names(classes)
    start_backend()
    found = evaluation.evaluate(model, data, image_size, crop, names)
    table = Table("class", "images", "recall", "precision", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, images, recall, precision in found.per_class():
        table.add_row(name, f"{images:,}", f"{recall:.1%}", f"{precision:.1%}")
    print_table(table)
    print(
        f"{found.images:,} images: top-1 {found.top_1:.2%}, top-5 {found.top_5:.2%}, "
        f"expected calibration error {found.calibration_error:.4f}"
    )
    if picture:
        found.save_picture(picture)
    return found.figures()
