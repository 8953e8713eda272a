"""The client: Flower ClientApp `clients.app:app`."""
