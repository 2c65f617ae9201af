"""Unix sockets: the one server, its client, its frames; and a table for each program of what it is asked."""
