"""Measures the speeds that the documents promise; each module prints its numbers and the machine."""
