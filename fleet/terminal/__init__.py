"""What a person at a terminal reads: the habits of every command line, and what may stand there."""
