from .controller import SequenceController
from .eas.controller import EASController
from .eas.policy import EASReinforce
from .eas.settings import EASBudget, EASSettings
from .eas.space import EASSpace
from .evaluator import Evaluator, Result, Trial
from .executors.executor import Executor, Outcome, Serial
from .executors.processes import Processes
from .executors.ray import Ray
from .folder import Retraining, search_folder
from .images.grown import search_grown
from .images.latency import LatencyMeter
from .images.settings import LatencySettings
from .journal import Journal, Record
from .keras_child import KerasChild
from .nas.language_child import LanguageChild
from .nas.language_search import search_recurrent_cells
from .nas.language_settings import LanguageBudget, RecurrentSettings
from .nas.layerwise_search import search_layers
from .nas.layerwise_settings import LayerwiseBudget, LayerwiseSettings
from .nas.layerwise_space import NAS_V3_SPACE, LayerwiseSpace
from .nas.recurrent_space import RecurrentSpace
from .nasnet.search import search_cells
from .nasnet.settings import Budget, Settings
from .nasnet.space import NASNetSpace
from .nasnet.tabular import TabularBenchmark
from .optuna_policy import OptunaPolicy
from .path_level.controller import TreeController
from .path_level.policy import TreeReinforce
from .path_level.settings import PathLevelBudget, PathLevelSettings
from .path_level.space import TreeCellSpace
from .policies import (
    PPO,
    Experience,
    Policy,
    Proposal,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
)
from .predictor import Predictor
from .registry import POLICIES
from .schedulers import Asynchronous, Synchronous
from .search import Callback, run_search
from .settings import ExecutorSettings, SearchSettings
from .space import Actions, AnchorStep, SequenceSpace, Space, Step
from .stopping import QuantileStopping, SuccessiveHalving

__all__ = [
    "NAS_V3_SPACE",
    "POLICIES",
    "PPO",
    "Actions",
    "AnchorStep",
    "Asynchronous",
    "Budget",
    "Callback",
    "EASBudget",
    "EASController",
    "EASReinforce",
    "EASSettings",
    "EASSpace",
    "Evaluator",
    "Executor",
    "ExecutorSettings",
    "Experience",
    "Journal",
    "KerasChild",
    "LanguageBudget",
    "LanguageChild",
    "LatencyMeter",
    "LatencySettings",
    "LayerwiseBudget",
    "LayerwiseSettings",
    "LayerwiseSpace",
    "NASNetSpace",
    "OptunaPolicy",
    "Outcome",
    "PathLevelBudget",
    "PathLevelSettings",
    "Policy",
    "Predictor",
    "Processes",
    "Proposal",
    "QuantileStopping",
    "RandomSearch",
    "Ray",
    "Record",
    "RecurrentSettings",
    "RecurrentSpace",
    "RegularizedEvolution",
    "Reinforce",
    "Result",
    "Retraining",
    "SearchSettings",
    "SequenceController",
    "SequenceSpace",
    "Serial",
    "Settings",
    "Space",
    "Step",
    "SuccessiveHalving",
    "Synchronous",
    "TabularBenchmark",
    "TreeCellSpace",
    "TreeController",
    "TreeReinforce",
    "Trial",
    "run_search",
    "search_cells",
    "search_folder",
    "search_grown",
    "search_layers",
    "search_recurrent_cells",
]
