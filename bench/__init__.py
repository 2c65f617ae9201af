"""Measurements of the speeds that the documents promise; each prints its numbers and what they were made on."""
