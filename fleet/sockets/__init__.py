"""Unix sockets: the server, the client, the frames; and for each program a table of its requests."""
