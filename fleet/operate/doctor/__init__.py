"""`fleet doctor`: is this machine fit to carry a fleet, and what mends it where it is not.

machine.py   the machine that is looked at: files under a prefix, a runner of commands
check.py     what a check is, and what it finds: a verdict, what was seen, the command that repairs it
network.py   WireGuard, nftables, reverse path filters, Docker, systemd-resolved
dropins.py   what keeps systemd-networkd and NetworkManager off our rules and interfaces
host.py      memory, descriptors, clock, sandbox, fonts, browser
own.py       settings, accounts, what an earlier life left behind
examine.py   all of them in order, and what --fix does
"""
