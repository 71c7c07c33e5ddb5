"""``nasnet-zoo train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from nasnet_zoo.checking import PositiveInt, Seed
from nasnet_zoo.files import read_json
from nasnet_zoo.language.recipes import LANGUAGE_RECIPES, LanguageRecipe
from nasnet_zoo.training.recipes import Recipe, StrategyName, load_recipe

from .options import UsageError, defaults_from
from .shared import Data, Json, recipe_defaults


def _load(name: str) -> Recipe | LanguageRecipe:
    return LANGUAGE_RECIPES[name] if name in LANGUAGE_RECIPES else load_recipe(name)


@defaults_from(recipe_defaults(_load, "cifar10"))
def train(
    name: Annotated[str, arg(metavar="RECIPE")],
    /,
    *,
    data: Data,
    out: str,
    batch_size: PositiveInt | None = None,
    seed: Seed = 0,
    checkpoints_per_epoch: PositiveInt = 1,
    deterministic: bool = False,
    strategy: StrategyName | None = None,
    tensorboard: bool = False,
    settings: Annotated[Any, arg(name="")],
    json: Json = None,
) -> dict[str, Any] | None:
    """Train a network by a recipe.

    Run again with the same --out, it continues where it was stopped. The defaults of the recipe's
    options are those of RECIPE, or without a name those of cifar10.

    Args:
        name: cifar10, cifar10_cutout, nas_v1_cifar, imagenet_mobile, imagenet_large, finetune,
            fashion_mnist, digits, or a .json file; or ptb_medium, a language model. Stands before all
            options.
        out: Folder for the checkpoint, the history and the model.
        batch_size: Batch size other than the recipe's. The learning rate is scaled in proportion.
        seed: Seed of all random draws.
        checkpoints_per_epoch: Number of checkpoints in an epoch, each after an evaluation.
        deterministic: Whether equal runs are equal to the last bit.
        strategy: mirrored, for all GPUs of this machine, or multiworker, for those of all machines in
            the environment variable TF_CONFIG; each runs this command, with an --out that all share.
        tensorboard: Whether to write events to OUT/tensorboard.
        settings: Recipe.

    Example:
        nasnet-zoo train digits --data digits --out runs/digits --run.epochs 10
    """
    from nasnet_zoo import training
    from nasnet_zoo.quiet import start_backend

    if isinstance(settings, LanguageRecipe):
        others = {
            "--batch-size": batch_size,
            "--strategy": strategy,
            "--checkpoints-per-epoch": checkpoints_per_epoch if checkpoints_per_epoch > 1 else None,
        }
        for option, value in others.items():
            if value is not None:
                message = f"expected no {option} with a language model. Received: {value}"
                raise UsageError("nasnet-zoo train", message)
        from nasnet_zoo.language import train_language_model

        start_backend()
        train_language_model(
            settings, data, out, seed=seed, deterministic=deterministic, tensorboard=tensorboard
        )
        print(f"Wrote {out}/model.keras")
        return _figures(out) if json else None
    if strategy is None:  # Else the strategy starts it.
        start_backend()
    training.train(
        settings if batch_size is None else settings.with_batch_size(batch_size),
        data,
        out,
        seed=seed,
        checkpoints_per_epoch=checkpoints_per_epoch,
        deterministic=deterministic,
        strategy=strategy,
        tensorboard=tensorboard,
    )
    print(f"Wrote {out}/model.keras")
    return _figures(out) if json else None


def _figures(out: str) -> dict[str, Any]:
    """The last epoch of a training, and its test where it had held-out data."""
    from nasnet_zoo.training.history import last_epoch

    test = Path(out, "test.json")
    return {
        "model": f"{out}/model.keras",
        **last_epoch(Path(out, "history.csv")),
        "test": read_json(test, "the test of a training") if test.exists() else None,
    }
