"""Real processes: Flower's SuperLink and SuperNodes, started, watched and ended; keys; what the network may reach.

`python -m server` and `python -m clients` are made of it. Messages travel as Flower sends them.
"""
