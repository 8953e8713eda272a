"""Links and devices: how long bytes and examples take a client, when it is there, and when it is lost.

Simulated time depends on what was sent and on the seed, never on the machine that simulates. NumPy alone; no Flower.

The way of a round: `Network` (whose link, whose processor, who is there) -> `Exchange` (who answers when) ->
`RoundTiming` (the clock after it).
"""

from fedcomp.network.availability import Availability
from fedcomp.network.exchange import Exchange, Fate, RoundTiming
from fedcomp.network.mix import Mix, parse_mix
from fedcomp.network.network import Network
from fedcomp.network.profile import Profile
from fedcomp.network.profiles import PROFILES
from fedcomp.network.sharing import fair_shares
from fedcomp.network.traces import check_availability, diurnal, make_availability, read_trace

__all__ = [
    "PROFILES",
    "Availability",
    "Exchange",
    "Fate",
    "Mix",
    "Network",
    "Profile",
    "RoundTiming",
    "check_availability",
    "diurnal",
    "fair_shares",
    "make_availability",
    "parse_mix",
    "read_trace",
]
