"""The host tier: the fleet on a real booted Debian, with systemd, networkd, firewalls and Docker beside it."""
