"""`fleet doctor`: whether this machine is fit for a fleet, and what repairs it where it is not."""
