"""Deployment: who may take part in a federation of real processes. Certificates, node keys, their registration.

Needs neither torch nor Flower: what a SuperLink has to know, Flower's own command line tells it.
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
from fedcomp.deployment.node_keys import NODES_FOLDER, NodeKey, NodeKeys
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
    "renew_server_certificate",
    "sync_registrations",
]
