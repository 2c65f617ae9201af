"""The unprivileged program that each host runs once: jobs, results, uploads, alerts, the page."""
