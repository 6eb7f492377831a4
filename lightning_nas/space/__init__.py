"""Search spaces: labels, their domains, and the conditions under which each is active."""

from lightning_nas.space.choices import Categorical, Subset
from lightning_nas.space.condition import Condition
from lightning_nas.space.domain import Domain
from lightning_nas.space.domains import domain_from_json
from lightning_nas.space.numeric import Float, Integer
from lightning_nas.space.rounded import Normal, Quantized
from lightning_nas.space.search_space import Sample, SearchSpace
from lightning_nas.space.values import value_key

__all__ = [
    "Categorical",
    "Condition",
    "Domain",
    "Float",
    "Integer",
    "Normal",
    "Quantized",
    "Sample",
    "SearchSpace",
    "Subset",
    "domain_from_json",
    "value_key",
]
