"""Weights under attacks: what is evaluated, every example's verdict, the worst case."""
