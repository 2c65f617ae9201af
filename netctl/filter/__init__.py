"""nftables: the tables that hold workers back, and their gates."""
