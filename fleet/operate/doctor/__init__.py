"""`fleet doctor`: is this machine fit to carry a fleet, and what mends it where it is not."""
