"""Measurements; never tests."""
