"""Stages: what a codec text may name, a file each. `registry` lists them all."""
