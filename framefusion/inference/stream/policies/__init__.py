"""What stays in memory when it is full: one policy per file, by name.

`register` adds one of your own; a policy sees tensors only and needs no model.
"""

from framefusion.inference.stream.policies.hermes import Hermes
from framefusion.inference.stream.policies.infinipot import InfiniPot
from framefusion.inference.stream.policies.none import Everything
from framefusion.inference.stream.policies.policy import Policy
from framefusion.inference.stream.policies.retrieve import Retrieve
from framefusion.inference.stream.policies.uniform import Uniform
from framefusion.inference.stream.policies.window import Window

POLICIES: dict[str, type[Policy]] = {
    "hermes": Hermes,
    "infinipot": InfiniPot,
    "none": Everything,
    "retrieve": Retrieve,
    "uniform": Uniform,
    "window": Window,
}
