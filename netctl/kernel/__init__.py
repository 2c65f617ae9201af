"""Reads and changes the kernel's state: rtnetlink, sockets, sysctls and namespaces."""
