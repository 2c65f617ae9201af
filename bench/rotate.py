"""Changes the exit, by a key of a file and by one of a key service, in turns: `sudo bin/bench rotate [--rounds N]`.

One netctl, two slots, two VPN servers: the first server's keys come from files, the second's from the lab's service.
"""

from __future__ import annotations

import argparse
from statistics import median

from fleet.terminal import console
from lab import run
from lab.net import Lab
from tests.fleets import Rig
from tests.inside import Client
from tests.keyservices import Service
from tests.waiting import until

KEYS = 10
QUICK: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}}


def measured(rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds that netctl took for ROUNDS rotations: by keys of files, by those of the service."""
    lab = Lab("brot", servers=2, keys=KEYS)
    lab.up()
    service = Service(lab, KEYS)
    try:
        names = [str(server.address) for server in lab.topology.vpn]
        source = {**service.settings["keys.source"], "servers": names[1:], "ahead": 4}
        rig = Rig(lab, 2, keys=("vpn1-*.conf",), debug=False, changes={**QUICK, "keys.source": source})
        asking = rig.popen(rig.installation.keyservice("serve"))
        try:
            rig.start()
            until("a key of the service", lambda: "key-service" in rig.command("keys", "list").stdout, 20)
            clients = [rig.client(index) for index in (0, 1)]
            for client, name in zip(clients, names, strict=True):
                assert client.ask(do="connect", server=name)["ok"]["exit_server"] == name
            times = []
            for _ in range(rounds):
                times.append([_rotated(client) for client in clients])
                rig.status()  # half a second, as long as the shortest loop; keys are fetched ahead meanwhile
        finally:
            rig.stop()
            asking.wait(10)
    finally:
        service.kill()
        lab.down()
    files, services = zip(*times, strict=True)
    return [*files], [*services]


def _rotated(client: Client) -> float:
    return float(client.ask(do="rotate")["ok"]["rotate_ms"])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="rotations of each (%(default)s)")
    files, services = measured(parser.parse_args().rounds)
    for name, times in (("of a file", files), ("of the service", services)):
        console.show(f"{name}: median {median(times):.1f} ms, longest {max(times):.1f} ms, of {len(times)}")
    console.show(f"the service's median is {median(services) / median(files):.2f} of the file's")


if __name__ == "__main__":
    main()
