"""Coding: positions, symbols and signs as sections of bytes."""
