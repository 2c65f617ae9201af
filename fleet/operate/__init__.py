"""The operator's program `fleet`. No other program imports it."""
