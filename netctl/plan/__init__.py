"""Pure values: the state that the kernel should have, and the operations that lead to it in order."""
