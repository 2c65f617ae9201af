"""What a loop does in the browser: two kinds built in, others by entry point or dotted path."""
