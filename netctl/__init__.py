"""The privileged helper: the only program that touches links, rules, routes, nftables and WireGuard keys."""
