"""A small internet in network namespaces: VPN servers, resolvers, a shop, a router and the user's machine."""
