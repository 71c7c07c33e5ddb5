"""``nasnet-zoo demo``."""

from nasnet_zoo.checking import Seed


def demo(*, data: str = "digits", out: str = "demo-out", seed: Seed = 0) -> None:
    """Search cells on real images, train and export the best.

    Args:
        data: scikit-learn's "digits", or a folder of IDX files or of class folders.
        out: Folder for the results.
        seed: Seed of all random draws.
    """
    from nasnet_zoo.demo import run_demo
    from nasnet_zoo.quiet import start_backend

    start_backend()
    try:
        run_demo(data, out, seed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # its search is not kept, and does not go on
