from .controller import Controller
from .policies import POLICIES, PPO, Policy, RandomSearch, RegularizedEvolution, Reinforce
from .space import SearchSpace

__all__ = [
    "POLICIES",
    "PPO",
    "Controller",
    "Policy",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "SearchSpace",
]
