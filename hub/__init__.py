"""One unprivileged program a host: jobs, results, uploads, alerts, the view."""
