"""Which client has which profile: a text such as ``fibre:0.2 lte:0.5 3g:0.3``."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.errors import UsageError
from fedcomp.network.profiles import PROFILES
from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
    from fedcomp.network.profile import Profile


@dataclass(frozen=True, slots=True)
class Mix:
    """Profiles and the share of the population that has each.

    Args:
        profiles: The kinds of clients.
        shares: Probability of each, summing to 1.
        spread: Standard deviation of the logarithm of a client's rates, and of its processor's speed, around its
            profile's: each is multiplied by a log-normal factor with median 1; 0 makes all clients of a kind equal.
    """

    profiles: tuple[Profile, ...]
    shares: tuple[float, ...]
    spread: float = 0.0

    def device(self, client: int, seed: int) -> Profile:
        """Return one client's link and processor; they depend on nothing but its number and the seed."""
        rng = derive_rng(seed, client, "device")
        chosen = rng.choice(len(self.profiles), p=self.shares)
        link, speed = (math.exp(self.spread * z) for z in rng.standard_normal(2))
        return self.profiles[chosen].scaled(link=link, speed=speed)


def parse_mix(text: str, spread: float = 0.0) -> Mix:
    """Read a mix.

    Args:
        text: One profile's name, or several ``name:share`` whose shares sum to 1.
        spread: See `Mix`.

    Raises:
        UsageError: An unknown profile, or shares that are no shares.

    Example:
        >>> parse_mix("lte:0.75 3g:0.25").shares
        (0.75, 0.25)
    """
    parts = [part.partition(":") for part in text.split()]
    names = [name for name, _, _ in parts]
    if not names:
        raise UsageError(f"a network needs at least one profile: {', '.join(PROFILES)}")
    if len(set(names)) < len(names):
        raise UsageError(f"a profile is named twice in {text!r}: give it one share")
    shares = [1.0] if len(parts) == 1 and not parts[0][1] else [_share(name, share) for name, _, share in parts]
    if not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise UsageError(f"the shares in {text!r} sum to {sum(shares):g}, expected 1")
    # What is within the tolerance becomes exact: the draw accepts nothing else.
    return Mix(tuple(map(_profile, names)), tuple(share / sum(shares) for share in shares), spread)


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        close = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(PROFILES)}"
        raise UsageError(f"{name!r} is no network profile; {hint}")
    return PROFILES[name]


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(f"the share of {name!r} is {text!r}, expected a number above 0 and at most 1")
    return share
