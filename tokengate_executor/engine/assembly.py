"""Assembly: the arguments of an executor, checked one by one, and the engine built from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite
from time import perf_counter
from typing import Any, Final, Literal, cast

from tokengate_executor.engine.bounded import ON_FULL, BoundedGate, OnFull
from tokengate_executor.engine.bounds import Bound
from tokengate_executor.engine.crew import Crew, make_thread
from tokengate_executor.engine.gate import Gate
from tokengate_executor.engine.lanes import Lane, check_pinning
from tokengate_executor.engine.limits import Limit, make_limits
from tokengate_executor.engine.pacer import Pacer
from tokengate_executor.engine.router import Router
from tokengate_executor.engine.routes import Route
from tokengate_executor.engine.timers import Timers
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.options import is_duration
from tokengate_executor.policies.breaker import BreakerPolicy
from tokengate_executor.policies.convergence import ConvergencePolicy
from tokengate_executor.policies.limits import LimitSpec
from tokengate_executor.policies.topology import Topology, cpus_of_lanes, default_lanes
from tokengate_executor.policies.weights import WEIGHTS, AffinityPolicy, Weight

__all__ = ["ExitPolicy", "MaxPending", "Plan", "assemble", "check_count", "most_workers", "pace"]

ExitPolicy = Literal["wait", "abandon"]

_ATTEMPTS_NOTED: Final = 64
"""How many attempts of each operation every worker remembers, for the guard house."""

MaxPending = int | Mapping[Weight | None, int]
"""How many calls may wait: all together, or those of each weight (``None``: of no weight)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arguments of ``TokenGateExecutor``, as they were given."""

    max_workers: int
    thread_name_prefix: str
    initializer: Callable[..., object] | None
    initargs: Sequence[Any]
    lanes: int | None
    policy: AffinityPolicy | None
    pin_lanes: bool
    mailbox_size: int
    history_size: int
    max_spare_workers: int
    exit_policy: ExitPolicy
    max_pending: MaxPending | None
    on_full: OnFull
    submit_timeout: float | None
    limits: Mapping[str, LimitSpec] | None
    ageing: float
    keep_alive: float | None
    breaker: BreakerPolicy | None
    convergence: ConvergencePolicy | None

    def __post_init__(self) -> None:
        if self.max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if self.initializer is not None and not callable(self.initializer):
            raise TypeError("initializer must be a callable")
        check_count("mailbox_size", self.mailbox_size, least=1)
        check_count("history_size", self.history_size, least=0)
        check_count("max_spare_workers", self.max_spare_workers, least=0)
        _check_choice("exit_policy", self.exit_policy, ("wait", "abandon"))
        _check_choice("on_full", self.on_full, ON_FULL)
        _check_seconds("submit_timeout", self.submit_timeout)
        _check_seconds("keep_alive", self.keep_alive)
        ageing = cast("object", self.ageing)
        if not isinstance(ageing, int | float) or isinstance(ageing, bool):
            raise InvalidOptionError("ageing", ageing, "seconds, above 0")
        if not (ageing > 0 and isfinite(ageing)):
            raise InvalidOptionError("ageing", ageing, "seconds, above 0 and finite")
        breaker = cast("object", self.breaker)
        if breaker is not None and not isinstance(breaker, BreakerPolicy):
            raise InvalidOptionError("breaker", breaker, "a BreakerPolicy or None")
        if self.policy is not None and not isinstance(cast("object", self.policy), AffinityPolicy):
            raise InvalidOptionError("policy", self.policy, "an AffinityPolicy or None")
        if self.lanes is not None:
            check_count("lanes", self.lanes, least=1, most=self.max_workers)
        if self.submit_timeout is not None and self.on_full != "block":
            raise InvalidOptionError(
                "submit_timeout", self.submit_timeout, "None unless on_full is 'block'"
            )
        self._check_convergence()
        for bound in self.bounds_by_weight().values():
            check_count("max_pending", bound, least=1)

    def _check_convergence(self) -> None:
        convergence = cast("object", self.convergence)
        if convergence is None:
            return
        if not isinstance(convergence, ConvergencePolicy):
            raise InvalidOptionError("convergence", convergence, "a ConvergencePolicy or None")
        if max(convergence.min_workers, convergence.max_workers or 1) > self.max_workers:
            raise InvalidOptionError(
                "convergence",
                convergence,
                f"bounds of at most {self.max_workers}, the executor's max_workers",
            )
        lanes = self.lanes or (self.policy.lanes if self.policy else 1)
        if lanes > convergence.min_workers:
            raise InvalidOptionError(
                "convergence",
                convergence,
                f"min_workers of at least {lanes}, as each of {lanes} lanes needs a worker",
            )

    @property
    def first_workers(self) -> int:
        """How many workers there are to be at first."""
        return self.max_workers if self.convergence is None else self.convergence.min_workers

    def bounds_by_weight(self) -> dict[Weight | None, int]:
        """The bounds that are given weight by weight."""
        if self.max_pending is None or not isinstance(self.max_pending, Mapping):
            return {}
        for weight in self.max_pending:
            if weight is not None and weight not in WEIGHTS:
                allowed = ", ".join(repr(known) for known in WEIGHTS)
                raise InvalidOptionError("max_pending", weight, f"by weight: {allowed} or None")
        return dict(self.max_pending)


def most_workers(given: int | None, convergence: ConvergencePolicy | None) -> int:
    """The executor's ``max_workers``: what was given, else the policy's, else the default."""
    if given is not None:
        return given
    if isinstance(cast("object", convergence), ConvergencePolicy) and convergence is not None:
        return convergence.max_workers or max(default_max_workers(), convergence.min_workers)
    return default_max_workers()


def pace(crew: Crew, plan: Plan, topology: Topology) -> Pacer | None:
    """Have the crew's number of workers adapted from here on, if that was asked for."""
    if plan.convergence is None:
        return None
    most = plan.convergence.max_workers or plan.max_workers
    cores = len(topology.usable_cpus)
    if topology.quota is not None:
        cores = min(cores, ceil(topology.quota))
    return Pacer(crew, replace(plan.convergence, max_workers=most), cores=cores)


def default_max_workers() -> int:
    """As many as the standard library's executor has by default."""
    count_cpus: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return min(32, (count_cpus() or 1) + 4)


def assemble(plan: Plan) -> tuple[Crew, Topology, AffinityPolicy]:
    """Build the engine.

    Raises:
        InvalidOptionError: arguments contradict each other, or the system cannot do what they say.
    """
    topology = Topology.detect()
    policy = _policy_for(plan, topology)
    cpus_by_lane = cpus_of_lanes(topology, policy.lanes)
    if plan.pin_lanes:
        check_pinning(cpus_by_lane)
    plain = Route(0, None, None)
    routes = [plain]
    routes += [Route(i, w, policy.lanes_for(w)) for i, w in enumerate(WEIGHTS, start=1)]
    limits = make_limits(plan.limits, perf_counter())
    router = Router()
    gate = _gate_for(plan, routes, router, limits)
    gate.lanes = tuple(
        Lane(number, cpus_by_lane[number - 1], plain) for number in range(1, policy.lanes + 1)
    )
    gate.use(plain)
    crew = Crew(
        gate=gate,
        router=router,
        max_workers=plan.first_workers,
        max_spare_workers=plan.max_spare_workers,
        name_prefix=plan.thread_name_prefix,
        initializer=plan.initializer,
        initargs=plan.initargs,
        pin_lanes=plan.pin_lanes,
        history_size=plan.history_size,
        keep_alive=plan.keep_alive,
        attempts_noted=max(_ATTEMPTS_NOTED, plan.breaker.min_calls if plan.breaker else 0),
    )
    return crew, topology, policy


def _policy_for(plan: Plan, topology: Topology) -> AffinityPolicy:
    lanes, policy = plan.lanes, plan.policy
    if lanes is None:
        lanes = policy.lanes if policy else default_lanes(topology, plan.first_workers)
    if policy is None:
        policy = AffinityPolicy.staggered(lanes)
    if policy.lanes != lanes or lanes > plan.max_workers:
        raise InvalidOptionError(
            "policy",
            policy,
            f"a policy for {lanes} lanes, at most one for each of {plan.max_workers} workers",
        )
    return policy


def _gate_for(plan: Plan, routes: list[Route], router: Router, limits: dict[str, Limit]) -> Gate:
    timers = Timers(plan.thread_name_prefix, make_thread)
    kind = Gate if plan.max_pending is None else BoundedGate
    gate = kind(
        routes,
        plan.mailbox_size,
        plan.first_workers,
        router,
        limits=limits,
        ageing=plan.ageing,
        timers=timers,
    )
    if isinstance(gate, BoundedGate):
        gate.on_full = plan.on_full
        gate.submit_timeout = plan.submit_timeout
        if isinstance(plan.max_pending, Mapping):
            for weight, size in plan.bounds_by_weight().items():
                gate.routes[weight].bound = Bound(size)
        else:
            check_count("max_pending", plan.max_pending, least=1)
            together = Bound(cast("int", plan.max_pending))
            for route in routes:
                route.bound = together
        gate.bounds = tuple({route.bound for route in routes if route.bound is not None})
    return gate


def check_count(argument: str, given: object, *, least: int, most: int | None = None) -> None:
    """Refuse what is not an int in this range.

    Raises:
        InvalidOptionError: it is not.
    """
    allowed = f"an int of at least {least}" + ("" if most is None else f" and at most {most}")
    if not isinstance(given, int) or isinstance(given, bool):
        raise InvalidOptionError(argument, given, allowed)
    if given < least or (most is not None and given > most):
        raise InvalidOptionError(argument, given, allowed)


def _check_choice(argument: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidOptionError(argument, given, f"one of {', '.join(map(repr, allowed))}")


def _check_seconds(argument: str, given: object) -> None:
    if given is not None and not is_duration(given):
        raise InvalidOptionError(argument, given, "seconds, at least 0, or None")
