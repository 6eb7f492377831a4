"""Search spaces: labels, their domains, and the conditions under which each is active."""

from lightning_nas.space.condition import Condition
from lightning_nas.space.domains import (
    Categorical,
    Domain,
    Float,
    Integer,
    Subset,
    domain_from_json,
    value_key,
)
from lightning_nas.space.search_space import SearchSpace

__all__ = [
    "Categorical",
    "Condition",
    "Domain",
    "Float",
    "Integer",
    "SearchSpace",
    "Subset",
    "domain_from_json",
    "value_key",
]
