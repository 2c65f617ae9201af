"""nftables: the tables that block the workers' traffic, and the gates that open them."""
