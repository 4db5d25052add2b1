"""What a round does, derived from the seed, the database and the round's number alone."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.chaos.faults import FAULTS, Fault

# Cards of two faults in a deck, beside one for each fault.
_PAIRS_PER_DECK = 10
_PAIR_GAP_S = 3.0
_LONG_STALL_S, _STALL_S = 60.0, 15.0
_CUT_S = (5.0, 15.0)


class When(StrEnum):
    """The moment from which a fault's delay is counted."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDING = "ending"


@dataclass(frozen=True)
class Throw:
    """A fault and its place in the round."""

    fault: Fault
    delay_s: float


@dataclass(frozen=True)
class Plan:
    """One round."""

    number: int
    name: str
    rng: Random
    sizes: tuple[int, ...]
    when: When
    throws: tuple[Throw, ...]
    stall_s: float
    cut_s: float

    @property
    def title(self) -> str:
        return " + ".join(throw.fault.name for throw in self.throws)


def make_plan(seed: int, database: str, number: int, pattern: str = "*") -> Plan:
    """Return the plan of a round; each deck of rounds has every fault that fits, once, and some pairs."""
    faults = [fault for fault in FAULTS if fault.fits(database, pattern)]
    pairs = _PAIRS_PER_DECK if len(faults) > 1 else 0
    cards: list[Fault | None] = [*faults, *([None] * pairs)]
    deck = Random(f"{seed} {database} deck {number // len(cards)}")
    deck.shuffle(cards)
    rng = Random(f"{seed} {database} {number}")
    card = cards[number % len(cards)]
    stall_s = _LONG_STALL_S if rng.random() < 0.1 else _STALL_S
    cut_s = rng.choice(_CUT_S)
    when = rng.choices((When.SUBMITTED, When.RUNNING, When.ENDING), (3, 13, 4))[0]
    delay_s = rng.uniform(0.0, 1.5) if when is When.SUBMITTED else rng.uniform(0.2, 3.0)
    if when is When.ENDING:
        delay_s = rng.uniform(0.0, 0.6)
    if card is not None:
        throws = (Throw(card, delay_s),)
    else:
        pairable = [fault for fault in faults if fault.is_pairable]
        first, second = rng.sample(pairable, 2)
        throws = (Throw(first, delay_s), Throw(second, delay_s + rng.uniform(0.0, _PAIR_GAP_S)))
        # Two long stalls would only take time.
        stall_s = _STALL_S
    sizes = [rng.randint(650, 850), rng.randint(250, 350), rng.randint(20, 40), 1]
    count = rng.randint(2, 4)
    chosen = sizes[:1] + rng.sample(sizes[1:], count - 1)
    rng.shuffle(chosen)
    return Plan(number, f"{database}-{number}", rng, tuple(chosen), when, throws, stall_s, cut_s)
