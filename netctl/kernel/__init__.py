"""rtnetlink, sockets, sysctls and namespaces: the kernel as it is, read and changed."""
