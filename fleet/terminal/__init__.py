"""The command lines: what all of them share, the hub's commands, manual pages, shapes."""
