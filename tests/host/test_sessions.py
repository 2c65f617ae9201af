"""What ends with a login session or a target of systemd, and what goes on."""

from __future__ import annotations

import pytest

from tests.host.installed import Installed
from tests.waiting import until

ACCOUNT = """id op || useradd --create-home --uid 2000 --shell /bin/sh op
grep -x 'auth sufficient pam_permit.so' /etc/pam.d/su || sed -i '1i auth sufficient pam_permit.so' /etc/pam.d/su"""
"""Somebody who may become root, as with sudo."""
LOGIN = """exec su - op -c "su - root -c 'fleet up' >/tmp/said 2>&1; echo is up >>/tmp/said; exec sleep 9999"\n"""
"""By pam_systemd a session of logind's, whose leader is this process."""
STATES = """for one in $(loginctl --no-legend list-sessions | awk '{print $1}'); do
loginctl show-session --property=State --value $one; done"""
QUIET = "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\nAllowIsolate=yes\n"
"""As rescue.target, without its shell, which needs a console."""


@pytest.mark.whole_host
@pytest.mark.parametrize("linger", ["enable", "disable"])
@pytest.mark.parametrize("kills", ["yes", "no", "yes\nKillExcludeUsers=root op"], ids=["all", "none", "others"])
def test_the_end_of_the_login_that_started_it(host: Installed, kills: str, linger: str) -> None:
    """Started by hand in a login: `fleet up` and the doctor say whether the fleet ends with it; nothing leaves then.

    That depends on logind's settings, and on whether the user lingers.
    """
    host.run("systemctl stop fleet", check=True)
    host.machine.write("etc/systemd/logind.conf.d/kill.conf", f"[Login]\nKillUserProcesses={kills}\n")
    host.machine.write("root/login.sh", LOGIN)
    host.run(f"{ACCOUNT}\nsystemctl restart systemd-logind && loginctl {linger}-linger op", check=True)
    host.run(
        "systemctl stop login; rm -f /tmp/said; systemd-run --quiet --collect --unit=login sh /root/login.sh",
        check=True,
    )
    until(
        "it is up", lambda: "is up" in host.run("cat /tmp/said").stdout, 120, lambda: host.run("cat /tmp/said").stdout
    )
    assert ("UID 2000 logs out" in host.run("cat /tmp/said").stdout) == (kills == "yes")
    assert host.doctor()["logout"][0] == ("warning" if kills == "yes" else "ok")
    with host.probed(host.workers[0].uid) as ear:
        host.run("systemctl stop login", check=True)
        until("it has ended", lambda: {*host.run(STATES).stdout.split()} <= {"closing"}, 60)
        if kills == "yes":
            until("the fleet has ended", lambda: host.status()["supervisor_pid"] is None, 60, host.status)
        else:
            host.wait_for_loops()
        assert not host.escaped(ear)
    host.run("fleet down && loginctl disable-linger op && rm -r /etc/systemd/logind.conf.d", check=True)
    host.run("systemctl restart systemd-logind", check=True)


@pytest.mark.whole_host
def test_targets_come_and_go(host: Installed) -> None:
    """`systemctl isolate`: a target that wants the unit keeps it, another ends it in order; back again, it is up."""
    host.configure({"": {"isolation": "uid"}})
    host.machine.write("etc/systemd/system/quiet.target", QUIET)
    host.run("systemctl daemon-reload && systemctl --quiet enable fleet && systemctl start fleet", check=True)
    host.wait_for_loops()
    before = host.supervisor()
    with host.probed(host.workers[0].uid) as ear:
        host.run("systemctl isolate multi-user.target", check=True)
        host.wait_until_held()
        assert (host.active(), host.supervisor()) == ("active", before) and not host.escaped(ear)
    host.run("systemctl isolate quiet.target", check=True)
    until("it has ended", lambda: host.active() == "inactive", 120, host.said)
    left = host.run("ip -oneline rule | grep uidrange; nft list tables; ps -eo user= | grep -E '^(w13|netctl)'").stdout
    assert left == "" and host.doctor()["left-over"] == ("ok", "nothing is left of an earlier run")
    host.run("systemctl isolate multi-user.target", check=True)
    until("it is up again", lambda: host.active() == "active", 120, host.said)
    host.wait_for_loops()
    host.run("systemctl --quiet disable fleet && systemctl stop fleet", check=True)
    host.configure()
