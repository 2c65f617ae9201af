"""The vm tier: what only a kernel with WireGuard of its own can show, in a virtual machine."""
