"""Access to the machine, one module for each subject: processes, files, locks, namespaces, control groups, syscalls."""
