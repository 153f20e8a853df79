"""AMD, Apple, cgroup and host readings from recorded files and outputs; the merge of them; what never raises."""

import os
from pathlib import Path

import psutil

from xin.cgroup import Cgroup
from xin.node.devices.amd import Amd
from xin.node.devices.apple import Apple
from xin.node.devices.host import Host
from xin.node.devices.probe import Prober, probe

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")
    return root


def amd_tree(root: Path) -> Path:
    """A Radeon at 0000:03:00.0 as card1 beside an Intel card, with one KFD process."""
    pci = "sys/devices/pci0000:00/0000:03:00.0"
    write(
        root,
        {
            f"{pci}/vendor": "0x1002",
            f"{pci}/device": "0x744c",
            f"{pci}/mem_info_vram_total": str(24 * GIB),
            f"{pci}/mem_info_vram_used": str(4 * GIB),
            f"{pci}/gpu_busy_percent": "87",
            f"{pci}/hwmon/hwmon3/temp1_input": "61000",
            f"{pci}/hwmon/hwmon3/power1_average": "250000000",
            f"{pci}/hwmon/hwmon3/power1_cap": "303000000",
            "sys/class/drm/card0/device/vendor": "0x8086",
            "sys/class/kfd/kfd/topology/nodes/0/gpu_id": "0",
            "sys/class/kfd/kfd/topology/nodes/1/gpu_id": "51110",
            "sys/class/kfd/kfd/topology/nodes/1/properties": (
                "simd_count 192\ngfx_target_version 110001\nlocation_id 768\ndomain 0"
            ),
            "sys/class/kfd/kfd/proc/4242/vram_51110": str(3 * GIB),
            "sys/class/kfd/kfd/proc/4242/pasid": "32770",
        },
    )
    (root / "sys/class/drm/card1").mkdir()
    (root / "sys/class/drm/card1/device").symlink_to(root / pci)
    (root / "sys/class/drm/card1-DP-1").mkdir()
    return root


def test_an_amd_card_tells_everything(tmp_path):
    (device,) = Amd(amd_tree(tmp_path)).read()
    assert (device.id, device.kind, device.name) == ("rocm:0", "rocm", "AMD GPU 0x744c")
    assert (device.total_bytes, device.free_bytes) == (24 * GIB, 20 * GIB)
    assert (device.utilization, device.temperature, device.power, device.power_limit) == (87.0, 61.0, 250.0, 303.0)
    assert device.compute_capability == "gfx1101"
    assert device.process_bytes == {4242: 3 * GIB}


def test_amd_files_that_are_missing_or_nonsense_leave_fields_empty(tmp_path):
    root = amd_tree(tmp_path)
    card = root / "sys/devices/pci0000:00/0000:03:00.0"
    (card / "mem_info_vram_used").unlink()
    (card / "gpu_busy_percent").write_text("busy\n")
    (card / "hwmon/hwmon3/power1_average").unlink()
    (device,) = Amd(root).read()
    assert device.total_bytes == 24 * GIB
    assert [device.free_bytes, device.utilization, device.power] == [None, None, None]


def test_no_amd_card(tmp_path):
    assert Amd(tmp_path).read() == []


SYSCTL = """hw.memsize: 68719476736
iogpu.wired_limit_mb: 0
machdep.cpu.brand_string: Apple M2 Max
"""
IOREG = (
    '    "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=9126887424,'
    '"Tiler Utilization %"=3,"Renderer Utilization %"=41,"Device Utilization %"=42,"SplitSceneCount"=0,'
    '"In use system memory"=2147483648,"recoveryCount"=0}\n'
)


def apple(sysctl, ioreg=""):
    return Apple(lambda command: sysctl if command[0] == "sysctl" else ioreg)


def test_apple_memory_is_unified_and_three_quarters_of_a_large_one():
    (device,) = apple(SYSCTL, IOREG).read()
    assert (device.id, device.kind, device.name, device.unified) == ("metal:0", "metal", "Apple M2 Max", True)
    assert (device.total_bytes, device.free_bytes) == (48 * GIB, 46 * GIB)
    assert device.utilization == 42


def test_apple_wired_limit_wins_and_missing_answers_leave_fields_empty():
    limit = SYSCTL.replace("wired_limit_mb: 0", "wired_limit_mb: 57344")
    (device,) = apple(limit).read()
    assert (device.total_bytes, device.free_bytes, device.utilization) == (56 * GIB, None, None)
    assert apple("").read() == []


def test_cgroup_v2_takes_the_tightest_parent(tmp_path):
    base = "sys/fs/cgroup"
    cgroup = Cgroup(
        write(
            tmp_path,
            {
                "proc/self/cgroup": "0::/user.slice/app.scope",
                f"{base}/cgroup.controllers": "cpu memory",
                f"{base}/user.slice/memory.max": str(4 * GIB),
                f"{base}/user.slice/memory.current": str(3 * GIB),
                f"{base}/user.slice/memory.stat": f"anon 1\ninactive_file {GIB}",
                f"{base}/user.slice/cpu.max": "max 100000",
                f"{base}/user.slice/app.scope/memory.max": "max",
                f"{base}/user.slice/app.scope/memory.current": str(GIB),
                f"{base}/user.slice/app.scope/cpu.max": "150000 100000",
                f"{base}/user.slice/app.scope/cpu.stat": "usage_usec 2500000\nuser_usec 1",
            },
        )
    )
    assert cgroup.memory() == (4 * GIB, 2 * GIB)
    assert (cgroup.cpus(), cgroup.cpu_seconds()) == (1.5, 2.5)


def test_cgroup_v1_seen_from_inside_a_container(tmp_path):
    base = "sys/fs/cgroup"
    cgroup = Cgroup(
        write(
            tmp_path,
            {
                "proc/self/cgroup": "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/",
                f"{base}/memory/memory.limit_in_bytes": str(2 * GIB),
                f"{base}/memory/memory.usage_in_bytes": str(GIB),
                f"{base}/memory/memory.stat": "total_inactive_file 1024",
                f"{base}/cpu/cpu.cfs_quota_us": "50000",
                f"{base}/cpu/cpu.cfs_period_us": "100000",
                f"{base}/cpuacct/cpuacct.usage": "7000000000",
            },
        )
    )
    assert cgroup.memory() == (2 * GIB, GIB + 1024)
    assert (cgroup.cpus(), cgroup.cpu_seconds()) == (0.5, 7.0)


def test_cgroup_without_limits(tmp_path):
    base = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "5:memory:/\n3:cpu,cpuacct:/",
        f"{base}/memory/memory.limit_in_bytes": "9223372036854771712",
        f"{base}/memory/memory.usage_in_bytes": str(GIB),
        f"{base}/cpu/cpu.cfs_quota_us": "-1",
        f"{base}/cpu/cpu.cfs_period_us": "100000",
    }
    cgroup = Cgroup(write(tmp_path, files))
    assert (cgroup.memory(), cgroup.cpus()) == (None, None)
    assert Cgroup(tmp_path / "nowhere").memory() is None


def test_the_host_is_bounded_by_its_cgroup(tmp_path):
    files = {
        "proc/self/cgroup": "0::/",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Test CPU 9000",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory",
        "sys/fs/cgroup/memory.max": str(64 << 20),
        "sys/fs/cgroup/memory.current": str(16 << 20),
        "sys/fs/cgroup/cpu.max": "25000 100000",
        "sys/fs/cgroup/cpu.stat": "usage_usec 1000000",
    }
    host = Host(write(tmp_path, files))
    (device,) = host.read()
    assert (device.id, device.name, device.utilization) == ("cpu", "Test CPU 9000", None)
    assert (device.total_bytes, device.free_bytes, device.cores) == (64 << 20, 48 << 20, 0.25)
    write(tmp_path, {"sys/fs/cgroup/cpu.stat": "usage_usec 61000000"})
    assert host.read()[0].utilization == 100.0


def test_the_real_host():
    host = Host()
    (device,) = host.read()
    assert 0 < device.free_bytes <= device.total_bytes <= psutil.virtual_memory().total
    assert 0 < device.cores <= len(os.sched_getaffinity(0))
    assert device.name


class Broken:
    problem = None

    def read(self):
        raise RuntimeError("the driver lies")

    def close(self):
        pass


def test_a_source_that_raises_is_noted_and_logged_once(caplog):
    prober = Prober([Broken(), Host()])
    for _ in range(2):
        (device,) = prober.read()
        assert device.note == "Broken: RuntimeError('the driver lies')"
    assert len(caplog.records) == 1


def test_probe_ends_with_the_host():
    assert probe()[-1].kind == "cpu"
