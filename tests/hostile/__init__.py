"""Spools, results, logs, names and pages made to hurt, over every program that reads them."""
