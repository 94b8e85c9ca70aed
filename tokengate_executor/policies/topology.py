"""The CPUs this process may use, and how lanes lie on them.

`Topology` is plain data and everything decided from it is pure; `Topology.detect` alone reads the
system. Three things make the CPUs of a process fewer than those of its machine, and all three are
respected: the affinity mask, SMT siblings that share one physical core, and the CPU quota of a
control group (the limit that ``docker run --cpus`` and Kubernetes set).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Topology", "cpus_of_lanes", "default_lanes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """CPUs of the machine, and the part of them that this process may use.

    Args:
        logical_cpus: logical CPUs of the machine, at least 1.
        physical_cores: physical cores of the machine; equal to ``logical_cpus`` when unknown.
        usable_cpus: numbers of the logical CPUs this process may run on, ascending.
        quota: CPU time the control groups grant, in CPUs (1.5 = one and a half CPUs busy without
            pause), or None without a limit.
        cores: ``usable_cpus`` grouped by physical core, by ascending lowest number.

    Raises:
        ValueError: a count is below 1, the quota is not above 0, or ``cores`` is not a grouping
            of ``usable_cpus``.
    """

    logical_cpus: int
    physical_cores: int
    usable_cpus: tuple[int, ...]
    quota: float | None
    cores: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if self.logical_cpus < 1:
            raise ValueError(f"logical_cpus must be at least 1, got {self.logical_cpus}")
        if self.physical_cores < 1:
            raise ValueError(f"physical_cores must be at least 1, got {self.physical_cores}")
        if not self.usable_cpus or list(self.usable_cpus) != sorted(set(self.usable_cpus)):
            raise ValueError(
                "usable_cpus must hold at least one CPU number, ascending and without repeats,"
                f" got {self.usable_cpus!r}"
            )
        if self.quota is not None and not 0 < self.quota < math.inf:
            raise ValueError(f"quota must be None or a number of CPUs above 0, got {self.quota}")
        if not all(self.cores) or self.usable_cpus != tuple(
            sorted(cpu for core in self.cores for cpu in core)
        ):
            raise ValueError(
                f"cores must hold each of usable_cpus {self.usable_cpus!r} once,"
                f" in groups that are not empty, got {self.cores!r}"
            )

    @classmethod
    def detect(cls, root: str | os.PathLike[str] = "/") -> Topology:
        """Read the topology of this machine and process. Never raises for what it cannot read.

        What is read, and what stands in when it cannot be:

        - ``logical_cpus``: psutil; else the number of usable CPUs, else 1.
        - ``physical_cores``: psutil; else ``logical_cpus``.
        - ``usable_cpus``: the affinity mask, where the system has one; else every logical CPU. On
          Linux it is the mask of the calling thread, because threads started from it inherit it.
        - ``quota``: ``cpu.max`` (cgroup v2) and ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us``
          (cgroup v1) of the process's group and of every group above it, the smallest; else None.
        - ``cores``: the sibling lists of Linux; else neighbouring CPU numbers when the machine has
          a whole number of CPUs per core, as other systems count them; else one core per CPU.

        Args:
            root: the directory under which ``proc`` and ``sys`` are read, for tests.
        """
        files = Path(root)
        affinity = _affinity_mask()
        logical = max(_machine_cpus(logical=True) or 1, len(affinity))
        # The two counts come from different sources and may contradict each other.
        physical = min(_machine_cpus(logical=False) or logical, logical)
        usable = affinity or tuple(range(logical))
        return cls(
            logical_cpus=logical,
            physical_cores=physical,
            usable_cpus=usable,
            quota=_smallest_quota(files),
            cores=_cores_by_siblings(usable, files) or _cores_by_ratio(usable, logical, physical),
        )

    @property
    def smt(self) -> bool:
        """Whether physical cores of the machine run more than one logical CPU."""
        return self.physical_cores < self.logical_cpus

    @property
    def usable_cores(self) -> int:
        """Physical cores this process can keep busy, at least 1: affinity and quota respected.

        A fractional quota is rounded up. Rounded down, a quota of 1.5 would leave a third of the
        granted time unused whenever calls are CPU-bound; rounded up, the kernel pauses the group
        for the end of a period, and no more than the grant is used either way.
        """
        # Where siblings are unknown every CPU counts as a core; the machine's cores still bound it.
        cores = min(len(self.cores), self.physical_cores)
        if self.quota is None:
            return cores
        return min(cores, max(1, math.ceil(self.quota)))

    def __str__(self) -> str:
        quota = "none" if self.quota is None else f"{self.quota:g} CPUs"
        smt = "yes" if self.smt else "no"
        return "\n".join(
            (
                "CPU topology:",
                f"  Physical cores: {self.physical_cores}",
                f"  Logical CPUs: {self.logical_cpus}",
                f"  SMT: {smt} ({self.logical_cpus / self.physical_cores:.1f} CPUs per core)",
                f"  Usable CPUs: {len(self.usable_cpus)} (numbers {_as_ranges(self.usable_cpus)})",
                f"  CPU quota: {quota}",
                f"  Usable cores: {self.usable_cores}",
            )
        )


def default_lanes(topology: Topology, max_workers: int) -> int:
    """Return the default number of lanes: one per usable core, never more than workers, at least 1.

    Args:
        topology: the CPUs of this process.
        max_workers: upper bound for the number of workers.
    """
    return max(1, min(topology.usable_cores, max_workers))


def cpus_of_lanes(topology: Topology, lanes: int) -> tuple[tuple[int, ...], ...]:
    """Return the CPU numbers that belong to each lane; index 0 is lane 1.

    Each lane gets one core with all its usable SMT siblings; with more lanes than cores, the cores
    are dealt again from the first.

    Args:
        topology: the CPUs of this process.
        lanes: number of lanes, at least 1.

    Raises:
        ValueError: ``lanes`` is below 1.
    """
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, got {lanes}")
    cores = topology.cores
    return tuple(cores[index % len(cores)] for index in range(lanes))


# --- what the machine and the process report ---


def _machine_cpus(*, logical: bool) -> int | None:
    # psutil passes on whatever its platform layer raises (a hidden /proc, a refused sysctl), and
    # no missing count is worth failing for: hence the broad except, here and below.
    try:
        return psutil.cpu_count(logical=logical) or None
    except Exception:
        return None


def _affinity_mask() -> tuple[int, ...]:
    """Return the CPU numbers of the affinity mask, ascending; empty where there is none to read."""
    read_mask: Callable[[int], Iterable[int]] | None = getattr(os, "sched_getaffinity", None)
    read_list: Callable[[], Iterable[int]] | None
    try:
        if read_mask is not None:
            return tuple(sorted(set(read_mask(0))))
        read_list = getattr(psutil.Process(), "cpu_affinity", None)
        return () if read_list is None else tuple(sorted(set(read_list())))
    except Exception:
        return ()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a null byte in a path taken from another file
        return None


# --- physical cores ---


def _cores_by_siblings(usable: tuple[int, ...], root: Path) -> tuple[tuple[int, ...], ...]:
    """Group by the kernel's sibling lists; empty when there is not one readable list."""
    cores: list[tuple[int, ...]] = []
    placed: set[int] = set()
    found = False
    for cpu in usable:
        if cpu in placed:
            continue
        directory = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        # The second is the name that older kernels know.
        text = _read(directory / "core_cpus_list") or _read(directory / "thread_siblings_list")
        siblings = _parse_cpu_list(text or "")
        found = found or bool(siblings)
        # Taking out what is placed keeps this a grouping even if the lists contradict each other.
        core = tuple(
            other
            for other in usable
            if other == cpu
            or (other not in placed and any(other in numbers for numbers in siblings))
        )
        placed.update(core)
        cores.append(core)
    return tuple(cores) if found else ()


def _cores_by_ratio(
    usable: tuple[int, ...], logical: int, physical: int
) -> tuple[tuple[int, ...], ...]:
    cpus_per_core, uneven = divmod(logical, physical)
    if uneven:  # mixed cores, some with siblings and some without: which are which is unknown
        return tuple((cpu,) for cpu in usable)
    cores: dict[int, list[int]] = {}
    for cpu in usable:
        cores.setdefault(cpu // cpus_per_core, []).append(cpu)
    return tuple(tuple(core) for core in cores.values())


def _parse_cpu_list(text: str) -> list[range]:
    """Parse the kernel's list format, such as ``0-3,8``; empty when it is anything else.

    Ranges stay ranges, so that a damaged file cannot ask for an endless list.
    """
    numbers: list[range] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            return []
        numbers.append(range(low, high + 1))
    return numbers


def _as_ranges(numbers: tuple[int, ...]) -> str:
    """Return ascending numbers in the kernel's list format: (0, 1, 2, 8) as ``0-2,8``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


# --- the quota of control groups ---


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """One mounted cgroup hierarchy that can limit CPU time.

    A mount may show only a subtree of the hierarchy: ``top`` is the group found at ``mount_point``.
    """

    version: int
    top: PurePosixPath
    mount_point: PurePosixPath


def _smallest_quota(root: Path) -> float | None:
    """Return the smallest quota, in CPUs, from the process's own group up to the topmost visible.

    Every group on the way limits what is below it, so the own group's setting is not enough: a
    container manager often sets the limit one or two levels above the process.
    """
    quotas = [
        quota
        for version, directory in _own_groups(root)
        if (quota := _read_quota(version, directory)) is not None
    ]
    return min(quotas, default=None)


def _own_groups(root: Path) -> Iterator[tuple[int, Path]]:
    """Yield (cgroup version, directory) of the process's groups and of all groups above them."""
    own = _parse_membership(_read(root / "proc/self/cgroup") or "")
    hierarchies = _parse_mounts(_read(root / "proc/self/mountinfo") or "") or _USUAL_HIERARCHIES
    for version, group in own.items():
        mounted = [hierarchy for hierarchy in hierarchies if hierarchy.version == version]
        paths = [
            (hierarchy.mount_point, path)
            for hierarchy in mounted
            if (path := _path_below(group, hierarchy.top)) is not None
        ]
        # A process moved between groups after its container was set up may lie outside all that
        # is mounted for it; what is mounted is then the nearest thing to its own group.
        if not paths:
            paths = [(hierarchy.mount_point, PurePosixPath()) for hierarchy in mounted]
        for mount_point, path in paths:
            top = root / mount_point.relative_to("/")
            for visible in (path, *path.parents):
                yield version, top / visible


def _parse_membership(text: str) -> dict[int, PurePosixPath]:
    """Parse ``/proc/self/cgroup``: for each cgroup version the group that can limit CPU time."""
    groups: dict[int, PurePosixPath] = {}
    for line in text.split("\n"):
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not path.startswith("/"):
            continue
        if hierarchy == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _parse_mounts(text: str) -> list[_Hierarchy]:
    """Parse ``/proc/self/mountinfo`` for the cgroup hierarchies that can limit CPU time."""
    hierarchies: list[_Hierarchy] = []
    for line in text.split("\n"):
        # "36 35 98:0 /top /mount/point options ... - type source superoptions"; the number of
        # fields before the lone dash varies.
        before, _, after = line.partition(" - ")
        mount, filesystem = before.split(" "), after.split(" ")
        if len(mount) < 5 or len(filesystem) < 3:
            continue
        if filesystem[0] == "cgroup2":
            version = 2
        elif filesystem[0] == "cgroup" and "cpu" in filesystem[-1].split(","):
            version = 1
        else:
            continue
        top, mount_point = (PurePosixPath(_without_escapes(field)) for field in mount[3:5])
        if mount_point.is_absolute():
            hierarchies.append(_Hierarchy(version, top, mount_point))
    return hierarchies


_USUAL_HIERARCHIES = [
    _Hierarchy(2, PurePosixPath("/"), PurePosixPath("/sys/fs/cgroup")),
    _Hierarchy(1, PurePosixPath("/"), PurePosixPath("/sys/fs/cgroup/cpu")),
]


def _without_escapes(field: str) -> str:
    # The kernel writes the four characters that would break its line format in octal.
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, character)
    return field


def _path_below(group: PurePosixPath, top: PurePosixPath) -> PurePosixPath | None:
    """Return the path from ``top`` down to ``group``, or None if it does not lie below."""
    try:
        path = group.relative_to(top)
    except ValueError:
        return None
    return None if ".." in path.parts else path


def _read_quota(version: int, directory: Path) -> float | None:
    """Return the quota of one group in CPUs; None for no limit and for what cannot be read."""
    if version == 2:
        # "max 100000" or "150000 100000"; absent in the root group.
        fields = (_read(directory / "cpu.max") or "").split()
    else:
        # A quota of -1 is no limit.
        fields = [
            (_read(directory / name) or "").strip()
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    try:
        quota_in_microseconds, period_in_microseconds = map(int, fields)
        quota = quota_in_microseconds / period_in_microseconds
    except (ValueError, ArithmeticError):
        return None
    return quota if quota_in_microseconds > 0 and quota > 0 else None
