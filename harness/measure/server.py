"""The server scenario: queries arrive at random, open loop; at a rate, or at the highest that keeps a p99."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from harness import stats
from harness.errors import ConfigError
from harness.measure.bench import Bench, Observation
from harness.measure.latency import require_clock
from harness.measure.paced import (
    P99,
    Bounded,
    PacedSettings,
    Played,
    Service,
    bounded_percentile,
    count_queries,
    draw_service,
    latency_percentiles,
    latency_series,
    measure_service,
    paced_conditions,
    paced_settings_for,
    play,
    play_all,
    poisson_offsets,
    settings_of,
    simulate_latency,
    split_queries,
    throughput_of,
)
from harness.measure.rate_search import Bracket, highest_rate, search_rate
from harness.metrics import PERCENTILES
from harness.model import Fidelity, Measurement
from harness.remote import Child
from harness.units import format_ns, format_quantity

SERVER = "server"
# chosen: below this share of its capacity a device hardly ever has two queries at once, so that a p99 that
# misses there is the model's own
FLOOR_SHARE = 0.01
# chosen: the most of one rate, where fewer queries leave open whether it holds. The longer, the closer to
# the true rate: 85 to 90% of it with 15 s, 96% with 60 s (simulated: M/D/1, 1 ms a query, a p99 of 5 ms)
LONGEST_S, MOST_QUERIES = 15.0, 200_000
# On a virtual clock few queries can be played, but a queue can be computed: played ones agreed to 0.5%.
COMPUTED = 20_000
BEHIND_BUDGETS = 10  # chosen: a queue that makes a query so many budgets late is no near miss


def measure_server(
    bench: Bench,
    *,
    rate_per_s: float | None = None,
    p99_budget_ns: float | None = None,
    duration_s: float | None = None,
    seed: int,
) -> Observation:
    """Measure queries that arrive at random: at a rate, or find the highest rate that keeps a p99.

    Exactly one of `rate_per_s` and `p99_budget_ns` is given. `duration_s` is that of each rate, in device
    time; None: as the samples need. Raises ConfigError for a rate that the device can't reach.
    """
    if (rate_per_s is None) == (p99_budget_ns is None):
        raise ConfigError("expected either a rate or a p99 to keep, exactly one.", where=bench.case.name)
    for name, value in (("rate", rate_per_s), ("p99", p99_budget_ns), ("duration", duration_s)):
        if value is not None and not value > 0:
            raise ConfigError(f"server: {name} is {value:g}, expected more than 0.", where=bench.case.name)
    fidelity = require_clock(bench)
    if rate_per_s is not None:
        return _measure_rate(bench, fidelity, rate_per_s, duration_s, seed)
    assert p99_budget_ns is not None
    with bench.child("server-search") as (child, _):
        service = measure_service(bench, child, fidelity)
        return Search(bench, child, fidelity, service, p99_budget_ns, duration_s, seed).run()


def _measure_rate(
    bench: Bench, fidelity: Fidelity, rate_per_s: float, duration_s: float | None, seed: int
) -> Observation:
    settings = paced_settings_for(fidelity)
    counts = split_queries(count_queries(rate_per_s, settings, duration_s), settings)

    def check(service: Service) -> None:
        if rate_per_s > service.capacity_per_s:
            most, needs = _per_s(service.capacity_per_s), format_ns(service.median_ns)
            raise ConfigError(
                f"server: a rate of {_per_s(rate_per_s)} is beyond what it can reach: {most} (1 / {needs}).",
                where=bench.case.name,
                next_step="Ask for less, or give `p99` instead to find the highest rate that keeps it.",
            )

    played, service, conditions = play_all(
        bench,
        fidelity,
        settings,
        [poisson_offsets(rate_per_s, n, seed, i) for i, n in enumerate(counts)],
        check,
    )
    return Observation(
        measurements=(
            *_percentiles(played, service, rate_per_s, fidelity, seed),
            throughput_of(played, fidelity, SERVER),
        ),
        series=latency_series(played),
        conditions=tuple(conditions),
        settings={**settings_of(played, service, seed), "rate_per_s": rate_per_s},
        scenario=SERVER,
    )


def compute_p(p: float, service: Service, rate_per_s: float, seed: int) -> float:
    """Return the p-th percentile over COMPUTED arrivals of a queue with the service times that were seen."""
    offsets = poisson_offsets(rate_per_s, COMPUTED, seed)
    return stats.percentile(simulate_latency(offsets, draw_service(service, COMPUTED, seed)), p)


def _percentiles(
    played: Played, service: Service, rate_per_s: float, fidelity: Fidelity, seed: int
) -> list[Measurement]:
    """Return the latency percentiles; on a virtual clock their intervals reach to what is computed."""
    found = latency_percentiles(played, fidelity, SERVER)
    if fidelity is not Fidelity.VIRTUAL or not played.kept_up:
        return found
    wider = []
    for p, m in zip(PERCENTILES, found, strict=True):
        computed = compute_p(p, service, rate_per_s, seed)
        low, high = (computed if bound is None else bound for bound in (m.low, m.high))
        reasons = (*m.reasons, f"interval: out to {format_ns(computed)}, computed for {COMPUTED} arrivals")
        wider.append(replace(m, low=min(low, computed), high=max(high, computed), reasons=reasons))
    return wider


@dataclass
class Search:
    """The search for the highest rate, in one process. `rates` is the evidence: one entry for each tried."""

    bench: Bench
    child: Child
    fidelity: Fidelity
    service: Service
    budget_ns: float
    duration_s: float | None
    seed: int
    rates: list[dict[str, Any]] = field(default_factory=list)
    best: Played | None = None
    best_per_s: float = 0.0
    expected_per_s: float = 0.0  # that holds in a simulation: what misses below it gets a second try

    @property
    def settings(self) -> PacedSettings:
        return paced_settings_for(self.fidelity)

    def run(self) -> Observation:
        """Return what was found, with the percentiles at the highest rate that held."""
        ceiling = self.service.capacity_per_s
        floor = min(max(1.0, FLOOR_SHARE * ceiling), ceiling / 2)
        enough = self._enough_queries_per_s()
        floor = max(floor, min(enough, ceiling))
        if (why := self._alone_too_slow()) is not None:
            return self._observed(None, why, 0.0)
        if (why := self._too_few(ceiling)) is not None:
            return self._observed(None, why)
        self.expected_per_s = highest_rate(self._would_hold, floor, ceiling)
        bracket = search_rate(self._holds, self.expected_per_s, floor, ceiling)
        if bracket.held_per_s is None:
            share = f"{100 * floor / ceiling:.3g}% of what it can reach"
            why = f"even {_per_s(floor)}, {share}, was not shown to keep it: {self._left_open()}"
            if floor == enough:
                lasts = format_quantity(self.duration_s, "s")
                why += f"; lower ones have too few queries in {lasts} for a p99: set duration_s higher"
            return self._observed(None, why)
        return self._observed(bracket, "")

    def _alone_too_slow(self) -> str | None:
        """Return why no rate can hold: a query alone takes longer than the budget."""
        alone = bounded_percentile(self.service.latency_ns, 50, self.fidelity)
        if (alone.value if alone.low is None else alone.low) <= self.budget_ns:
            return None
        takes, budget = format_ns(alone.value), format_ns(self.budget_ns)
        return f"even 1/s misses: a query alone takes {takes}, the p99 budget is {budget}"

    def _left_open(self) -> str:
        """Return why the lowest rate wasn't shown to hold."""
        lowest = self.rates[-1]
        too_few = lowest["p99_ns"] is not None and lowest["p99_ns"] <= self.budget_ns and lowest["kept_up"]
        return str(lowest["reasons"][-1]) if too_few and lowest["reasons"] else "see the rates tried"

    def _enough_queries_per_s(self) -> float:
        """Return the rate below which the duration that was set has too few queries for a p99; else 0."""
        if self.duration_s is None or self.fidelity is Fidelity.VIRTUAL:
            return 0.0
        return (stats.loadgen_samples_needed(P99) + 1) / self.duration_s

    def _too_few(self, ceiling: float) -> str | None:
        """Return why no rate can be shown to hold: not even the fastest gives queries enough for a p99."""
        needed = stats.loadgen_samples_needed(P99)
        count = count_queries(ceiling, self.settings, self.duration_s)
        if self.fidelity is Fidelity.VIRTUAL or count >= needed:
            return None
        lasts = format_quantity(needed / ceiling, "s")
        return (
            f"too few samples for the percentile asked: {count} at the highest rate it can reach, "
            f"{_per_s(ceiling)}; LoadGen's minimum for a p99 is {needed}: set duration_s to more than {lasts}"
        )

    def _count(self, rate_per_s: float) -> int:
        return count_queries(rate_per_s, self.settings, self.duration_s)

    def _more(self, rate_per_s: float, count: int, found: Bounded) -> int:
        """Return how many queries may show whether a rate holds where `count` left it open; 0: no more."""
        decided = found.value > self.budget_ns or (found.high is not None and found.high <= self.budget_ns)
        if decided or self.fidelity is Fidelity.VIRTUAL:
            return 0
        most = int(min(rate_per_s * (self.duration_s or LONGEST_S), MOST_QUERIES))
        return most if most > count else 0

    def _would_hold(self, rate_per_s: float) -> bool:
        """Return whether a simulation with the service times that were seen keeps the budget."""
        if not self._computed_holds(rate_per_s):
            return False
        count = self._count(rate_per_s)
        while count:
            offsets = poisson_offsets(rate_per_s, count, self.seed)
            latency = simulate_latency(offsets, draw_service(self.service, count, self.seed))
            found = bounded_percentile(latency, P99, self.fidelity)
            count = self._more(rate_per_s, count, found)
        return found.high is not None and found.high <= self.budget_ns

    def _computed_holds(self, rate_per_s: float) -> bool:
        """Return whether a rate holds in the long run too, where few queries are played (virtual clock)."""
        if self.fidelity is not Fidelity.VIRTUAL:
            return True
        return compute_p(P99, self.service, rate_per_s, self.seed) <= self.budget_ns

    def _holds(self, rate_per_s: float) -> bool:
        """Return whether a rate keeps the budget; one that should, but doesn't, is played once more.

        On a virtual clock it would only say the same again.
        """
        again = rate_per_s <= self.expected_per_s and self.fidelity is not Fidelity.VIRTUAL
        return self._try(rate_per_s) or (again and self._try(rate_per_s))

    def _try(self, rate_per_s: float) -> bool:
        """Play one rate; return whether the upper bound of its p99 is within the budget."""
        self.bench.progress.say(f"server: {_per_s(rate_per_s)}")
        count = self._count(rate_per_s)
        while count:  # what a short look leaves open, a longer one decides
            offsets = poisson_offsets(rate_per_s, count, self.seed)
            behind_ns = BEHIND_BUDGETS * max(self.budget_ns, self.service.median_ns)
            played = Played((play(self.bench, self.child, offsets, self.service, self.settings, behind_ns),))
            found = None if played.missing else bounded_percentile(played.latency_ns, P99, self.fidelity)
            count = self._more(rate_per_s, count, found) if found else 0
        met = found is not None and found.high is not None and found.high <= self.budget_ns
        met = met and played.kept_up and self._computed_holds(rate_per_s)
        if met and rate_per_s >= self.best_per_s:
            self.best, self.best_per_s = played, rate_per_s
        self.rates.append(_evidence(rate_per_s, played, found, met))
        return met

    def _observed(self, bracket: Bracket | None, why: str, rate: float | None = None) -> Observation:
        """Return the highest rate with its evidence; without a bracket `rate`: 0 where none can hold, and
        None where that could not be shown."""
        settings: dict[str, Any] = {
            "p99_budget_ns": self.budget_ns,
            "seed": self.seed,
            "service_time_ns": self.service.median_ns,
            "capacity_per_s": self.service.capacity_per_s,
            "expected_per_s": self.expected_per_s,
            "rates": sorted(self.rates, key=lambda r: float(r["rate_per_s"])),
        }
        if bracket is None or bracket.held_per_s is None or self.best is None:
            nothing = Measurement(
                "server_rate_per_s",
                rate,
                rate,
                rate,
                len(self.service.latency_ns) if rate is not None else 0,
                self.fidelity,
                SERVER,
                reasons=(why,),
            )
            return Observation(measurements=(nothing,), settings=settings, scenario=SERVER)
        held, missed = bracket.held_per_s, bracket.missed_per_s
        tried = any(r["rate_per_s"] == missed for r in self.rates)
        beyond = (
            f"{_per_s(missed)} was not shown to" if tried else f"{_per_s(missed)} is all that it can reach"
        )
        budget = format_ns(self.budget_ns)
        said = f"the upper bound of its p99 keeps {budget} at {_per_s(held)}; {beyond}; within one process"
        if self.fidelity is Fidelity.VIRTUAL:
            said += f"; also computed for {COMPUTED} arrivals, as few tell little of a p99"
        found = Measurement(
            "server_rate_per_s",
            held,
            held,
            missed,
            self.best.requested,
            self.fidelity,
            SERVER,
            reasons=(said,),
        )
        return Observation(
            measurements=(
                found,
                *_percentiles(self.best, self.service, held, self.fidelity, self.seed),
                throughput_of(self.best, self.fidelity, SERVER),
            ),
            series=latency_series(self.best),
            conditions=tuple(paced_conditions(f"at {_per_s(held)}", self.best.blocks[0])),
            settings={
                **settings,
                **settings_of(self.best, self.service, self.seed),
                "rate_per_s": held,
            },
            scenario=SERVER,
        )


def _per_s(rate_per_s: float) -> str:
    return format_quantity(rate_per_s, "1/s")


def _evidence(rate_per_s: float, played: Played, found: Bounded | None, met: bool) -> dict[str, Any]:
    """Return what a run keeps of one rate. There is no bound where queries were given up."""
    latency_ns = played.latency_ns
    return {
        "rate_per_s": rate_per_s,
        "queries": played.requested,
        "p99_ns": stats.percentile(latency_ns, P99) if len(latency_ns) else None,
        "p99_high_ns": found.high if found else None,
        "met": met,
        "kept_up": played.kept_up,
        "reasons": list(found.reasons) if found else [f"{played.missing} queries were given up"],
    }
