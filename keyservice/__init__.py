"""The program that speaks HTTP to a key service, under its own account: its answers are strangers'."""
