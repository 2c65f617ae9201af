"""`worker prepare`, as root at `fleet up`: finds browser and driver, patches a copy of the driver, writes launch specs.

Nothing is downloaded or patched while workers run: of 32 concurrent starts that each patched the same
file, 25 failed with "Text file busy".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from fleet import log
from fleet.errors import ConfigurationError, MissingProgram
from fleet.isolation import HOST
from fleet.launch_spec import NSSWITCH, POLICY_FOLDERS, LaunchSpec
from fleet.machine import cgroups
from fleet.machine.files import write_durably
from fleet.model import BrowserSettings, Fleet, Paths, Worker
from fleet.programs import ERRORS_AS_DATA, SEARCH_PATH, undetected_is_installed
from worker import logins, packages, seccomp
from worker.browser import switches
from worker.browser.interface import Installed

BROWSERS = ("google-chrome", "google-chrome-stable", "chromium")
DRIVERS = ("chromedriver",)
AUTHORITIES = Path("/etc/fleet-authorities.pem")
"""In the worker's private /etc: browser.certificate_authorities in one file."""
_VERSION = re.compile(r"\b(\d+(?:\.\d+){1,3})\b")
_INJECTED = re.compile(rb"\{window\.cdc.*?;\}", re.DOTALL)
_REPLACEMENT = b'{console.log("undetected chromedriver 1337!")}'
_log = log.get("worker")


def prepare(fleet: Fleet, paths: Paths, home: Path) -> Installed:
    """Make everything that is needed to launch the workers of FLEET; the driver's copy goes below HOME."""
    installed = find(fleet.browser, home)
    etc = etc_files(fleet)
    for worker in fleet.members:
        path = paths.launch_spec(worker)
        path.parent.mkdir(parents=True, exist_ok=True)
        own = {**etc, **logins.etc_files(fleet.browser, worker)}
        write_durably(path, launch_spec(fleet, paths, worker, installed, own).as_json().encode(), 0o600)
    _log.info("worker.prepared", browser=str(installed.browser), version=installed.version, workers=len(fleet.members))
    return installed


def find(settings: BrowserSettings, home: Path) -> Installed:
    """The browser and the driver that the workers will use; raises like fitting()."""
    installed = fitting(settings)
    if settings.driver != "undetected":
        return installed
    return replace(installed, driver=patched_copy(installed.driver, home))


def current(installed: Installed, settings: BrowserSettings, *, doubted: bool = False) -> Installed:
    """INSTALLED, or what an update has replaced it by since `fleet up`; raises like fitting().

    For use in the worker: a new patched copy then goes into its own /tmp. DOUBTED: the browser has failed, perhaps
    during an update.
    """
    if doubted:
        packages.settled(installed.browser)
    if _stamp(installed.browser) == installed.stamp:
        return installed
    found = find(settings, Path(tempfile.gettempdir()))
    _log.warning("browser.updated", version=found.version, before=installed.version)
    return found


def _stamp(program: Path) -> str:
    """A text that changes when the file PROGRAM is replaced; "" when there is none."""
    try:
        found = program.stat()
    except OSError:
        return ""
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def fitting(settings: BrowserSettings) -> Installed:
    """A browser and its driver, of one version; raises MissingProgram, ConfigurationError, or TryLater in an update."""
    if settings.driver == "undetected" and not undetected_is_installed():
        raise MissingProgram(
            'browser.driver is "undetected", and undetected-chromedriver is not installed here',
            hint='set browser.driver = "selenium" in fleet.toml, or: sudo bin/setup',
        )
    browser = _program("browser.binary", settings.binary, BROWSERS, "install Google Chrome or chromium")
    driver = _program(
        "browser.driver_binary", settings.driver_binary, DRIVERS, "install chromium-driver, or Chrome's ChromeDriver"
    )
    stamp, version, driver_version = _stamp(browser), _version(browser), _version(driver)
    packages.settled(browser)  # last, because versions that are read during an update may be of two releases
    if version.partition(".")[0] != driver_version.partition(".")[0]:
        raise ConfigurationError(
            f"{browser} is version {version}, but {driver} is for version {driver_version}",
            hint=f"install the ChromeDriver of version {version.partition('.')[0]} as {driver}",
        )
    return Installed(browser=browser, driver=driver, version=version, stamp=stamp)


def _program(setting: str, chosen: Path | None, names: tuple[str, ...], hint: str) -> Path:
    if chosen is not None:
        if not os.access(chosen, os.X_OK):
            raise MissingProgram(f"{setting}: {chosen} is no program", hint=f"{hint}, or correct the setting")
        return chosen
    for name in names:
        found = shutil.which(name, path=SEARCH_PATH)
        if found:
            return Path(found)
    raise MissingProgram(f"none of {', '.join(names)} is in {SEARCH_PATH}", hint=f"{hint}, or set {setting}")


def _version(program: Path) -> str:
    try:
        environment = {"PATH": SEARCH_PATH, "HOME": "/nonexistent"}
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingProgram(f"{program} --version failed: {error}", hint="try it by hand") from error
    found = _VERSION.search(done.stdout)
    if found is None:
        raise MissingProgram(f"{program} --version says no version: {done.stdout.strip()!r}", hint="try it by hand")
    return found[1]


def patched_copy(driver: Path, home: Path) -> Path:
    """The patched copy of DRIVER below HOME, made if there is none for these bytes; every user may run it."""
    content = driver.read_bytes()
    folder = home / "driver" / hashlib.sha256(content).hexdigest()[:16]
    copy = folder / "chromedriver"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder.parent):
            place.chmod(0o755)
        write_durably(copy, patch(content, str(driver)))
        _log.info("driver.patched", source=str(driver), copy=str(copy))
    copy.chmod(0o755)  # also for a copy of a set-up that ended before this line
    return copy


def patch(content: bytes, origin: str) -> bytes:
    """CONTENT, patched like undetected-chromedriver does it: the block that reveals the driver is replaced."""
    found = _INJECTED.search(content)
    if found is None:
        raise ConfigurationError(
            f"{origin} has no code block that undetected-chromedriver could patch",
            hint='set browser.driver = "selenium", or name another ChromeDriver in browser.driver_binary',
        )
    return content.replace(found[0], _REPLACEMENT.ljust(len(found[0])))


def etc_files(fleet: Fleet) -> dict[str, str]:
    """The files in a worker's /etc that replace the host's."""
    authorities = fleet.browser.certificate_authorities
    policies = json.dumps(switches.policies(authorities, sorted(fleet.reach.networks, key=str)), indent=1)
    resolvers = "".join(f"nameserver {address}\n" for address in fleet.dns.resolvers)
    return {
        "resolv.conf": f"{resolvers}options timeout:2 attempts:3\n",
        "nsswitch.conf": NSSWITCH,
        "hosts": hosts(Path("/etc/hosts")),
        AUTHORITIES.name: "".join(path.read_text(encoding="ascii", errors="ignore") for path in authorities),
        **{f"{folder}/fleet.json": policies for folder in POLICY_FOLDERS},
    }


def hosts(path: Path) -> str:
    """The host's /etc/hosts as it is now, for the worker's whole life, with `localhost` added if missing.

    It does not change, because Chrome aborts open lookups then; selenium finds its driver by the name `localhost`.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    known = any("localhost" in line.partition("#")[0].split()[1:] for line in text.splitlines())
    return text if known else f"127.0.0.1 localhost\n::1 localhost\n{text}"


def launch_spec(fleet: Fleet, paths: Paths, worker: Worker, installed: Installed, etc: dict[str, str]) -> LaunchSpec:
    """The launch spec of WORKER."""
    release = Path(__file__).resolve().parent.parent
    home = str(paths.home(worker))
    environment = {
        "FLEET_ROOT": str(paths.root),
        "HOME": home,
        "USER": worker.name,
        "LOGNAME": worker.name,
        "LANG": "C.UTF-8",
        "PATH": SEARCH_PATH,
        "TMPDIR": "/tmp",  # noqa: S108 - private, made by the launcher
        **ERRORS_AS_DATA,
        "FLEET_BROWSER": str(installed.browser),
        "FLEET_DRIVER": str(installed.driver),
        "FLEET_BROWSER_VERSION": installed.version,
        "FLEET_BROWSER_STAMP": installed.stamp,
    }
    return LaunchSpec(
        uid=worker.uid,
        account=worker.name,
        argv=[sys.executable, "-I", str(release / "launch.py"), "worker", "run", "--worker", worker.name],
        environment=environment,
        home=home,
        lock=str(paths.worker_lock(worker)),
        etc=etc,
        keep=[str(path) for path in (paths.run, paths.home(worker))],
        write=[str(paths.home(worker))],
        space="" if fleet.walls.space(worker) == HOST else str(paths.space(worker)),
        ports=list(worker.browser_ports),
        user_namespaces=user_namespaces(),
        denied_calls=seccomp.compiled(netlink=not fleet.workers.deny_netlink),
        open_files=fleet.workers.open_files,
        processes=fleet.workers.processes,
        memory_mebibytes=fleet.workers.memory_mebibytes,
        cpu_weight=fleet.workers.cpu_weight,
        io_weight=fleet.workers.io_weight,
        sockets=fleet.workers.sockets,
        cgroup=str(cgroups.of_worker(worker.name, cgroups.own()) or ""),
        file_mebibytes=fleet.workers.file_mebibytes,
        tmp_mebibytes=fleet.workers.tmp_mebibytes,
        death_signal=int(signal.SIGTERM),
    )


@cache
def user_namespaces() -> bool:
    """Whether an ordinary user may make a user namespace on this machine."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "true"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False, env={"PATH": SEARCH_PATH})
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def installed_from(environment: Mapping[str, str]) -> Installed:
    """The browser and driver of the launch spec; raises ConfigurationError outside a launched worker."""
    browser, driver = environment.get("FLEET_BROWSER"), environment.get("FLEET_DRIVER")
    version, stamp = environment.get("FLEET_BROWSER_VERSION"), environment.get("FLEET_BROWSER_STAMP", "")
    if not (browser and driver and version):
        raise ConfigurationError("this worker was not started by its launcher", hint="fleet up")
    return Installed(browser=Path(browser), driver=Path(driver), version=version, stamp=stamp)
