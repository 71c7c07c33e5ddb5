"""NASNet for Keras: cells, networks, weights and exports."""

import os

from nasnet_zoo.quiet import quiet_stderr

# TensorFlow logs a warning, with its stack, of every error that it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Keras imports its backend, whose native notes nobody can turn off in time.
with quiet_stderr():
    import keras

from nasnet_zoo.architecture import Architecture, architecture_cost
from nasnet_zoo.cells import (
    AMOEBANET_A,
    CIFAR,
    DARTS_V2,
    ENAS,
    IMAGENET,
    NASNET_A,
    NASNET_B,
    NASNET_C,
    PNASNET_5,
    Block,
    CellGenotype,
    DropPathSchedule,
    Genotype,
    Hyperparameters,
    ScheduledDropPath,
)
from nasnet_zoo.classifier import decode_predictions, preprocess_input
from nasnet_zoo.models import (
    DARTS_V2_CIFAR,
    ENAS_CIFAR,
    AmoebaNetA_4_50,
    AmoebaNetA_6_36_CIFAR,
    AmoebaNetA_6_190,
    NASNet,
    NASNetA_1_384_FashionMNIST,
    NASNetA_5_1538,
    NASNetA_6_768_CIFAR,
    NASNetA_7_1920,
    NASNetA_7_2304_CIFAR,
    NASNetB_4_1152_CIFAR,
    NASNetB_4_1536,
    NASNetC_3_960,
    NASNetC_4_640_CIFAR,
    NASNetLarge,
    NASNetMobile,
    PNASNet5Large,
    PNASNet5Mobile,
    create_model,
)
from nasnet_zoo.network import end_points, feature_extractor, inference_model
from nasnet_zoo.presets import list_models
from nasnet_zoo.weights import load_weights

if keras.backend.backend() == "tensorflow":
    import nasnet_zoo.fused  # noqa: F401

__version__ = "0.1.0"

__all__ = [
    "AMOEBANET_A",
    "CIFAR",
    "DARTS_V2",
    "DARTS_V2_CIFAR",
    "ENAS",
    "ENAS_CIFAR",
    "IMAGENET",
    "NASNET_A",
    "NASNET_B",
    "NASNET_C",
    "PNASNET_5",
    "AmoebaNetA_4_50",
    "AmoebaNetA_6_36_CIFAR",
    "AmoebaNetA_6_190",
    "Architecture",
    "Block",
    "CellGenotype",
    "DropPathSchedule",
    "Genotype",
    "Hyperparameters",
    "NASNet",
    "NASNetA_1_384_FashionMNIST",
    "NASNetA_5_1538",
    "NASNetA_6_768_CIFAR",
    "NASNetA_7_1920",
    "NASNetA_7_2304_CIFAR",
    "NASNetB_4_1152_CIFAR",
    "NASNetB_4_1536",
    "NASNetC_3_960",
    "NASNetC_4_640_CIFAR",
    "NASNetLarge",
    "NASNetMobile",
    "PNASNet5Large",
    "PNASNet5Mobile",
    "ScheduledDropPath",
    "architecture_cost",
    "create_model",
    "decode_predictions",
    "end_points",
    "feature_extractor",
    "inference_model",
    "list_models",
    "load_weights",
    "preprocess_input",
]
