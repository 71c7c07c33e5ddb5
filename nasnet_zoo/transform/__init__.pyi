from .condensing import condense
from .deeper import net2deeper
from .distillation import distill
from .edges import insert_identity, replace_identity
from .growing import grow
from .miniblocks import copy_miniblock
from .paths import replicate_add, replicate_concat, split_concat
from .wider import net2wider

__all__ = [
    "condense",
    "copy_miniblock",
    "distill",
    "grow",
    "insert_identity",
    "net2deeper",
    "net2wider",
    "replace_identity",
    "replicate_add",
    "replicate_concat",
    "split_concat",
]
