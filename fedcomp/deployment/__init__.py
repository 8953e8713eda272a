"""Real processes: Flower's SuperLink and SuperNodes, started, watched and ended; keys; what the network may reach.

`python -m server` and `python -m clients` are made of it. Messages travel as Flower sends them, and what a SuperLink
has to know, Flower's own command line tells it: nothing here imports Flower, or torch.
"""

from fedcomp.deployment.authority import (
    CA_CERTIFICATE,
    CA_KEY,
    DEFAULT_DAYS,
    LOOPBACK_HOSTS,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    Certified,
    create_authority,
    renew_server_certificate,
)
from fedcomp.deployment.flwr_nodes import RunFlwr
from fedcomp.deployment.node_keys import NODES_FOLDER, NodeKey, NodeKeys, private_key_fingerprint
from fedcomp.deployment.record import RegistrationRecord
from fedcomp.deployment.registration import Registered, Registrar, sync_registrations

__all__ = [
    "CA_CERTIFICATE",
    "CA_KEY",
    "DEFAULT_DAYS",
    "LOOPBACK_HOSTS",
    "NODES_FOLDER",
    "SERVER_CERTIFICATE",
    "SERVER_KEY",
    "Certified",
    "NodeKey",
    "NodeKeys",
    "Registered",
    "Registrar",
    "RegistrationRecord",
    "RunFlwr",
    "create_authority",
    "private_key_fingerprint",
    "renew_server_certificate",
    "sync_registrations",
]
