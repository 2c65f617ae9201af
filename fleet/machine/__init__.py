"""The machine, in one place each: processes, files, locks, namespaces, control groups, kernel calls."""
