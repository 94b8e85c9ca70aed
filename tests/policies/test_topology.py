"""Tests of tokengate_executor.policies.topology, on fake /proc and /sys trees."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokengate_executor.policies.topology import Topology, cpus_of_lanes, default_lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MOUNT_V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
MOUNT_V1_MEMORY = "33 31 0:32 / /sys/fs/cgroup/memory rw shared:8 - cgroup cgroup rw,memory\n"


class Machine:
    """A fake machine: its files lie under `root`, its counts are what was last set."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch

    def cpus(
        self, logical: int | None, physical: int | None, affinity: Iterable[int] | None = None
    ) -> None:
        """Set what psutil counts, and the affinity mask (default: every logical CPU)."""

        def cpu_count(logical: bool = True) -> int | None:
            return counts[logical]

        counts = {True: logical, False: physical}
        mask = set(range(logical or 1)) if affinity is None else set(affinity)
        self._monkeypatch.setattr(psutil, "cpu_count", cpu_count)
        self.affinity_reader(lambda _: mask)

    def affinity_reader(self, reader: Callable[[int], set[int]]) -> None:
        """Put `reader` in place of ``os.sched_getaffinity``."""
        self._monkeypatch.setattr(os, "sched_getaffinity", reader, raising=False)

    def file(self, path: str, content: str | bytes) -> None:
        """Write a file below the root, with the directories above it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def siblings(self, *lists: str, name: str = "core_cpus_list") -> None:
        """Write the sibling lists of CPU 0, 1, and so on."""
        for cpu, text in enumerate(lists):
            self.file(f"sys/devices/system/cpu/cpu{cpu}/topology/{name}", f"{text}\n")

    def control_groups(self, membership: str, mounts: str) -> None:
        """Write the groups of the process and the table of mounts."""
        self.file("proc/self/cgroup", membership)
        self.file("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)

    def quota_v1(self, group: str, quota: str, period: str = "100000") -> None:
        """Write the two v1 files of a group."""
        self.file(f"{group}/cpu.cfs_quota_us", f"{quota}\n")
        self.file(f"{group}/cpu.cfs_period_us", f"{period}\n")

    def detect(self) -> Topology:
        """Detect the topology of this machine."""
        return Topology.detect(self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Eight CPUs without SMT and without any readable file."""
    machine = Machine(tmp_path, monkeypatch)
    machine.cpus(logical=8, physical=8)
    return machine


def topology_of(*cores: tuple[int, ...], quota: float | None = None, **changes: Any) -> Topology:
    """Return the topology of a machine with these cores, but for `changes`."""
    usable = tuple(sorted(cpu for core in cores for cpu in core))
    arguments: dict[str, Any] = {
        "logical_cpus": len(usable),
        "physical_cores": len(cores),
        "usable_cpus": usable,
        "quota": quota,
        "cores": cores,
    }
    return Topology(**(arguments | changes))


# --- counts, affinity ---


def test_without_files_every_cpu_of_a_plain_machine_is_a_core(machine: Machine) -> None:
    """No file is needed: the counts alone give a topology."""
    assert machine.detect() == topology_of(*[(cpu,) for cpu in range(8)])


def test_affinity_smaller_than_the_machine_is_respected(machine: Machine) -> None:
    """Only the CPUs of the mask are usable, and the machine's counts stay."""
    machine.cpus(logical=8, physical=8, affinity={6, 2})
    topology = machine.detect()
    assert topology.usable_cpus == (2, 6)
    assert topology.cores == ((2,), (6,))
    assert topology.usable_cores == 2
    assert (topology.logical_cpus, topology.physical_cores) == (8, 8)


def test_unknown_physical_cores_count_as_logical(machine: Machine) -> None:
    """Where psutil does not know the cores, SMT is not assumed."""
    machine.cpus(logical=6, physical=None)
    topology = machine.detect()
    assert topology.physical_cores == 6
    assert not topology.smt


@pytest.mark.parametrize(("logical", "physical"), [(None, None), (0, 0), (None, 4)])
def test_unknown_counts_fall_back_to_the_usable_cpus(
    machine: Machine, logical: int | None, physical: int | None
) -> None:
    """Where psutil knows nothing, the affinity mask is the machine."""
    machine.cpus(logical=logical, physical=physical, affinity={0, 1, 5})
    topology = machine.detect()
    assert topology.logical_cpus == 3
    assert topology.physical_cores == 3


def test_nothing_readable_is_one_cpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every source raises, there is still the CPU this runs on."""

    def refuse(*_: object, **__: object) -> Any:
        raise PermissionError(13, "hidden")

    monkeypatch.setattr(psutil, "cpu_count", refuse)
    machine.affinity_reader(refuse)
    assert machine.detect() == topology_of((0,))


def test_affinity_comes_from_psutil_where_the_os_module_has_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has a mask, but only psutil reads it."""

    class Process:
        def cpu_affinity(self) -> list[int]:
            return [3, 1]

    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(psutil, "Process", Process)
    assert machine.detect().usable_cpus == (1, 3)


def test_without_any_affinity_every_logical_cpu_is_usable(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no mask at all on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(psutil, "Process", object)
    assert machine.detect().usable_cpus == tuple(range(8))


def test_detect_on_this_machine_agrees_with_the_system() -> None:
    """The real reading gives a valid topology with at least one usable core."""
    topology = Topology.detect()
    assert 1 <= topology.usable_cores <= len(topology.usable_cpus) <= topology.logical_cpus
    if hasattr(os, "sched_getaffinity"):
        assert set(topology.usable_cpus) == os.sched_getaffinity(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no threads")
def test_detect_sees_the_mask_of_the_calling_thread() -> None:
    """A pinned thread sees its own mask, which the threads it starts inherit."""
    seen: list[tuple[int, ...]] = []

    def pin_and_detect() -> None:
        cpu = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpu})
        seen.append((cpu,))
        seen.append(Topology.detect().usable_cpus)

    thread = threading.Thread(target=pin_and_detect)
    thread.start()
    thread.join()
    assert seen[0] == seen[1]


# --- physical cores ---


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_smt_siblings_share_a_core(machine: Machine, name: str) -> None:
    """Siblings are grouped under both names the kernel has had for their list."""
    machine.cpus(logical=4, physical=2)
    machine.siblings("0,2", "1,3", "0,2", "1,3", name=name)
    topology = machine.detect()
    assert topology.cores == ((0, 2), (1, 3))
    assert topology.usable_cores == 2
    assert topology.smt


def test_newer_name_of_the_sibling_list_wins(machine: Machine) -> None:
    """With both files there, the newer one is read."""
    machine.cpus(logical=2, physical=1)
    machine.siblings("0", "1", name="thread_siblings_list")
    machine.siblings("0-1", "0-1", name="core_cpus_list")
    assert machine.detect().cores == ((0, 1),)


def test_affinity_that_splits_siblings_keeps_both_cores(machine: Machine) -> None:
    """A core counts when one of its siblings is usable, and holds only usable CPUs."""
    machine.cpus(logical=8, physical=4, affinity={0, 1, 5})
    machine.siblings(*["0,4", "1,5", "2,6", "3,7"] * 2)
    assert machine.detect().cores == ((0,), (1, 5))


def test_mixed_cores_are_grouped_by_their_own_lists(machine: Machine) -> None:
    """Performance cores with siblings and efficiency cores without stand side by side."""
    machine.cpus(logical=6, physical=4)
    machine.siblings("0-1", "0-1", "2-3", "2-3", "4", "5")
    assert machine.detect().cores == ((0, 1), (2, 3), (4,), (5,))


def test_cpu_without_a_list_is_its_own_core(machine: Machine) -> None:
    """One missing file does not spoil the others."""
    machine.cpus(logical=4, physical=2)
    machine.siblings("0-1", "0-1")
    assert machine.detect().cores == ((0, 1), (2,), (3,))


@pytest.mark.parametrize("garbage", ["", "x", "0-", "-1", "0,,1", "0-1-2", "\0"])
def test_unreadable_sibling_lists_count_as_missing(machine: Machine, garbage: str) -> None:
    """Lists that are no lists leave the ratio of CPUs to cores."""
    machine.cpus(logical=4, physical=2)
    machine.siblings(garbage, garbage, garbage, garbage)
    assert machine.detect().cores == ((0, 1), (2, 3))


def test_contradicting_sibling_lists_still_give_a_grouping(machine: Machine) -> None:
    """No CPU is in two cores, whatever the lists say."""
    machine.cpus(logical=4, physical=4)
    machine.siblings("0-2", "1-3", "7", "0-3")
    assert machine.detect().cores == ((0, 1, 2), (3,))


def test_endless_sibling_range_is_harmless(machine: Machine) -> None:
    """A damaged range is compared, never expanded."""
    machine.cpus(logical=2, physical=2)
    machine.siblings("0-99999999999999999999", "1")
    assert machine.detect().cores == ((0, 1),)


def test_known_ratio_groups_neighbours_where_there_are_no_lists(machine: Machine) -> None:
    """Systems without sibling lists number the siblings of a core one after the other."""
    machine.cpus(logical=8, physical=4, affinity={0, 1, 3, 6})
    assert machine.detect().cores == ((0, 1), (3,), (6,))


@pytest.mark.parametrize(("logical", "physical"), [(6, 4), (5, 2)])
def test_uneven_ratio_leaves_cpus_alone_but_bounds_the_usable_cores(
    machine: Machine, logical: int, physical: int
) -> None:
    """Which CPUs are siblings is unknown, but there are never more cores than the machine has."""
    machine.cpus(logical=logical, physical=physical)
    topology = machine.detect()
    assert topology.cores == tuple((cpu,) for cpu in range(logical))
    assert topology.usable_cores == physical


# --- quota ---


@pytest.mark.parametrize(
    ("content", "quota"),
    [
        ("150000 100000\n", 1.5),
        ("50000 200000\n", 0.25),
        ("max 100000\n", None),
        ("", None),
        ("150000\n", None),
        ("150000 0\n", None),
        ("0 100000\n", None),
        ("-1 100000\n", None),
        ("-1 -100000\n", None),
        ("1 2 3\n", None),
        ("one two\n", None),
        ("1.5 1\n", None),
        (b"\xff\xfe\0", None),
        ("9" * 400 + " 1\n", None),
        ("1 " + "9" * 400 + "\n", None),
        ("9" * 5000 + " 1\n", None),
    ],
)
def test_cpu_max(machine: Machine, content: str | bytes, quota: float | None) -> None:
    """The v2 file is quota and period; everything that is not two such numbers is no limit."""
    machine.control_groups("0::/job\n", MOUNT_V2)
    machine.file("sys/fs/cgroup/job/cpu.max", content)
    assert machine.detect().quota == quota


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [
        ("250000", "100000", 2.5),
        ("-1", "100000", None),
        ("0", "100000", None),
        ("100000", "0", None),
        ("100000", "", None),
        ("", "100000", None),
        ("many", "100000", None),
        ("1 1", "100000", None),
    ],
)
def test_cfs_quota(machine: Machine, quota: str, period: str, cpus: float | None) -> None:
    """The v1 files are quota and period; -1 and everything unreadable is no limit."""
    machine.control_groups("4:cpu,cpuacct:/job\n", MOUNT_V1)
    machine.quota_v1("sys/fs/cgroup/cpu,cpuacct/job", quota, period)
    assert machine.detect().quota == cpus


def test_quota_file_of_v1_without_its_period_is_no_limit(machine: Machine) -> None:
    """Half of a v1 setting says nothing."""
    machine.control_groups("4:cpu,cpuacct:/job\n", MOUNT_V1)
    machine.file("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "100000")
    assert machine.detect().quota is None


@pytest.mark.parametrize("smallest", ["", "slice/", "slice/service/", "slice/service/job/"])
def test_smallest_quota_on_the_way_up_wins_in_v2(machine: Machine, smallest: str) -> None:
    """Every group above the process limits it, at whichever level the smallest stands."""
    machine.control_groups("0::/slice/service/job\n", MOUNT_V2)
    for group in ("slice/", "slice/service/", "slice/service/job/"):
        machine.file(f"sys/fs/cgroup/{group}cpu.max", "600000 100000\n")
    machine.file(f"sys/fs/cgroup/{smallest}cpu.max", "300000 100000\n")
    machine.file("sys/fs/cgroup/slice/other/cpu.max", "100000 100000\n")
    assert machine.detect().quota == 3.0


@pytest.mark.parametrize("smallest", ["", "/docker", "/docker/job"])
def test_smallest_quota_on_the_way_up_wins_in_v1(machine: Machine, smallest: str) -> None:
    """The walk upwards is the same in v1."""
    machine.control_groups("5:memory:/elsewhere\n4:cpuacct,cpu:/docker/job\n", MOUNT_V1)
    for group in ("", "/docker", "/docker/job"):
        machine.quota_v1(f"sys/fs/cgroup/cpu,cpuacct{group}", "-1")
    machine.quota_v1(f"sys/fs/cgroup/cpu,cpuacct{smallest}", "200000")
    assert machine.detect().quota == 2.0


def test_mixed_hierarchies_give_the_smaller_quota(machine: Machine) -> None:
    """Where v1 and v2 are both mounted, both limit."""
    unified = "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    machine.control_groups("4:cpu,cpuacct:/job\n0::/job\n", MOUNT_V1 + unified)
    machine.quota_v1("sys/fs/cgroup/cpu,cpuacct/job", "400000")
    machine.file("sys/fs/cgroup/unified/job/cpu.max", "300000 100000\n")
    assert machine.detect().quota == 3.0


def test_other_controllers_of_v1_are_not_read(machine: Machine) -> None:
    """Neither the group nor the mount of another controller says anything about CPU time."""
    machine.control_groups("9:cpuset:/job\n5:memory:/job\n", MOUNT_V1_MEMORY + MOUNT_V1)
    machine.quota_v1("sys/fs/cgroup/memory/job", "100000")
    machine.quota_v1("sys/fs/cgroup/cpu,cpuacct/job", "100000")
    assert machine.detect().quota is None


def test_container_that_mounts_only_its_own_group(machine: Machine) -> None:
    """The group is named from the host's root, the mount begins at the group itself."""
    mount = "32 31 0:29 /docker/job /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    machine.control_groups("4:cpu:/docker/job/inner\n", mount)
    machine.quota_v1("sys/fs/cgroup/cpu", "200000")
    machine.quota_v1("sys/fs/cgroup/cpu/inner", "-1")
    assert machine.detect().quota == 2.0


def test_process_outside_of_what_is_mounted_uses_the_mount_point(machine: Machine) -> None:
    """The nearest visible group stands in for the process's own."""
    mount = "31 23 0:28 /job /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    machine.control_groups("0::/elsewhere\n", mount)
    machine.file("sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert machine.detect().quota == 2.0


def test_group_path_never_leads_out_of_the_mount(machine: Machine) -> None:
    """A group outside the process's cgroup namespace is written with two dots."""
    machine.control_groups("0::/../elsewhere\n", MOUNT_V2)
    machine.file("sys/fs/cgroup/cpu.max", "200000 100000\n")
    machine.file("sys/fs/elsewhere/cpu.max", "100000 100000\n")
    assert machine.detect().quota == 2.0


def test_removed_group_leaves_the_groups_above_it(machine: Machine) -> None:
    """A missing directory is skipped on the way up."""
    machine.control_groups("0::/slice/gone (deleted)\n", MOUNT_V2)
    machine.file("sys/fs/cgroup/slice/cpu.max", "200000 100000\n")
    assert machine.detect().quota == 2.0


def test_mount_point_with_a_space(machine: Machine) -> None:
    """Octal escapes in the mount table are undone."""
    mount = "31 23 0:28 / /control\\040groups rw - cgroup2 cgroup2 rw\n"
    machine.control_groups("0::/job\n", mount)
    machine.file("control groups/job/cpu.max", "200000 100000\n")
    assert machine.detect().quota == 2.0


@pytest.mark.parametrize(
    ("membership", "path"),
    [
        ("0::/job\n", "sys/fs/cgroup/job/cpu.max"),
        ("4:cpu,cpuacct:/job\n", "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us"),
    ],
)
def test_usual_mount_points_stand_in_for_a_missing_mount_table(
    machine: Machine, membership: str, path: str
) -> None:
    """Without a mount table the customary places are tried."""
    machine.file("proc/self/cgroup", membership)
    machine.file("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000")
    machine.file(path, "200000 100000\n" if path.endswith("max") else "200000\n")
    assert machine.detect().quota == 2.0


def test_without_membership_there_is_no_quota(machine: Machine) -> None:
    """A quota is not taken from groups the process may not be in."""
    machine.file("proc/self/mountinfo", MOUNT_V2)
    machine.file("sys/fs/cgroup/cpu.max", "100000 100000\n")
    assert machine.detect().quota is None


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    membership=st.binary(max_size=60) | st.sampled_from([b"0::/job\n", b"4:cpu:/\n", b"::\n:\n"]),
    mounts=st.binary(max_size=60) | st.just(MOUNT_V2.encode()) | st.just(b"a b c d e - cgroup2"),
    quota=st.binary(max_size=60),
    siblings=st.binary(max_size=60),
)
def test_damaged_files_never_raise(
    machine: Machine, membership: bytes, mounts: bytes, quota: bytes, siblings: bytes
) -> None:
    """Whatever the files hold, there is a topology of all usable CPUs."""
    machine.file("proc/self/cgroup", membership)
    machine.file("proc/self/mountinfo", mounts)
    machine.file("sys/fs/cgroup/job/cpu.max", quota)
    machine.file("sys/devices/system/cpu/cpu0/topology/core_cpus_list", siblings)
    topology = machine.detect()
    assert topology.usable_cpus == tuple(range(8))
    assert 1 <= topology.usable_cores <= 8


def test_directories_in_place_of_files_never_raise(machine: Machine) -> None:
    """A directory where a file should be counts as missing."""
    for path in (
        "proc/self/cgroup",
        "proc/self/mountinfo",
        "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    ):
        (machine.root / path).mkdir(parents=True)
    assert machine.detect().usable_cores == 8


# --- the data and what is decided from it ---


@pytest.mark.parametrize(
    ("quota", "usable_cores"),
    [(None, 4), (0.1, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.01, 4), (64.0, 4)],
)
def test_quota_is_rounded_up_to_usable_cores(quota: float | None, usable_cores: int) -> None:
    """A fraction of a CPU counts as one, and no quota adds cores."""
    assert topology_of((0,), (1,), (2,), (3,), quota=quota).usable_cores == usable_cores


@pytest.mark.parametrize(
    ("max_workers", "lanes"), [(1, 1), (2, 2), (3, 3), (4, 3), (32, 3), (0, 1)]
)
def test_default_lanes_is_one_per_core_within_the_workers(max_workers: int, lanes: int) -> None:
    """Neither cores nor workers are exceeded, and there is always one lane."""
    assert default_lanes(topology_of((0,), (1,), (2,)), max_workers) == lanes


def test_default_lanes_respects_the_quota() -> None:
    """A quota smaller than the cores means fewer lanes."""
    assert default_lanes(topology_of((0,), (1,), (2,), (3,), quota=1.5), max_workers=32) == 2


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        (1, ((0, 2),)),
        (2, ((0, 2), (1, 3))),
        (5, ((0, 2), (1, 3), (0, 2), (1, 3), (0, 2))),
    ],
)
def test_cpus_of_lanes_deals_cores_in_turn(
    lanes: int, expected: tuple[tuple[int, ...], ...]
) -> None:
    """Each lane has one whole core; further lanes begin again with the first core."""
    assert cpus_of_lanes(topology_of((0, 2), (1, 3)), lanes) == expected


@pytest.mark.parametrize("lanes", [0, -1])
def test_cpus_of_lanes_refuses_less_than_one_lane(lanes: int) -> None:
    """There is no executor without a lane."""
    with pytest.raises(ValueError, match=f"lanes must be at least 1, got {lanes}"):
        cpus_of_lanes(topology_of((0,)), lanes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logical_cpus": 0}, "logical_cpus must be at least 1, got 0"),
        ({"physical_cores": 0}, "physical_cores must be at least 1, got 0"),
        ({"usable_cpus": ()}, "usable_cpus must hold at least one CPU number"),
        ({"usable_cpus": (1, 0)}, "usable_cpus must hold at least one CPU number"),
        ({"usable_cpus": (0, 0, 1)}, "usable_cpus must hold at least one CPU number"),
        ({"quota": 0.0}, "quota must be None or a number of CPUs above 0, got 0.0"),
        ({"quota": float("nan")}, "quota must be None or a number of CPUs above 0, got nan"),
        ({"quota": float("inf")}, "quota must be None or a number of CPUs above 0, got inf"),
        ({"cores": ()}, "cores must hold each of usable_cpus"),
        ({"cores": ((0,), ())}, "cores must hold each of usable_cpus"),
        ({"cores": ((0,), (1,), ())}, "cores must hold each of usable_cpus"),
        ({"cores": ((0, 1), (1,))}, "cores must hold each of usable_cpus"),
    ],
)
def test_impossible_topology_is_refused(changes: dict[str, Any], message: str) -> None:
    """Data that cannot be a machine is an error that names the field."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        topology_of((0,), (1,), **changes)


def test_str_shows_machine_and_process() -> None:
    """The printed topology has one line per fact."""
    topology = topology_of((0, 8), (1, 9), (2,), quota=1.5, logical_cpus=16, physical_cores=8)
    assert str(topology) == (
        "CPU topology:\n"
        "  Physical cores: 8\n"
        "  Logical CPUs: 16\n"
        "  SMT: yes (2.0 CPUs per core)\n"
        "  Usable CPUs: 5 (numbers 0-2,8-9)\n"
        "  CPU quota: 1.5 CPUs\n"
        "  Usable cores: 2"
    )


def test_str_of_a_plain_machine() -> None:
    """Without SMT and quota the print says so."""
    printed = str(topology_of((0,), (1,), (3,)))
    assert "  SMT: no (1.0 CPUs per core)\n" in printed
    assert "  Usable CPUs: 3 (numbers 0-1,3)\n" in printed
    assert "  CPU quota: none\n" in printed
