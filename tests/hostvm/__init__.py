"""The hostvm tier: the machine of the host tier under a kernel of its own, with the kernel's WireGuard."""
